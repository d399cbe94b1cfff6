package app

import (
	"github.com/memrelay/memrelay/internal/access"
	"github.com/memrelay/memrelay/internal/contract"
	"github.com/memrelay/memrelay/internal/outbound"
)

// webhookOperations describes the routes that say of the endpoint of the settings
// whether webhooks arrive.
func webhookOperations() contract.Section {
	return contract.Section{
		Name: "env-endpoint", Title: "The endpoint of the settings",
		Description: "The endpoint named env is what MEM0_WEBHOOK_URL and its like say.",
		Types: []contract.Type{
			{Of: outbound.Config{}, Name: "EnvEndpoint"}, {Of: outbound.Status{}, Name: "EnvEndpointStatus"},
			{Of: outbound.Test{}, Name: "EnvEndpointTest"}, {Of: outbound.TestOutcome{}, Name: "EnvEndpointTestOutcome"},
		},
		Operations: []contract.Operation{
			{
				ID: "get_env_endpoint", Method: "GET", Path: "/webhooks/memory/status", Summary: "How is it set?", Scope: access.AdminRead,
				Answers: []contract.Answer{contract.Shown(200, "Its settings, without secrets.", outbound.Status{}, `{"status":"ok","webhook_config":{"enabled":true,`+
					`"webhook_url":"https://example.com/hooks","timeout":30,"retry_count":3,"retry_delay":1,"enabled_events":["memory_added"],"has_token":false,"has_secret":true}}`)},
			},
			{
				ID: "test_env_endpoint", Method: "POST", Path: "/webhooks/memory/test", Summary: "Does a webhook arrive?", Scope: access.AdminWrite,
				Details: "It is sent once and stored nowhere. A body is not looked at.",
				Answers: []contract.Answer{contract.Shown(200, "What became of it.", outbound.Test{}, `{"status":"ok","test_sent":true,"webhook_enabled":true,"webhook_url":"https://example.com/hooks",`+
					`"outcome":{"delivered":true,"status_code":204,"error":"","webhook_id":"01a201a3-89ed-769a-b1f9-2106af11e64b","duration_ms":41}}`)},
			},
		},
	}
}
