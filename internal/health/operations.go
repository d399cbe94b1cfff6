package health

import (
	"errors"

	"github.com/memrelay/memrelay/internal/contract"
	"github.com/memrelay/memrelay/internal/respond"
)

// state is what Live and Ready answer with.
type state struct {
	Status string `json:"status"`
}

// Operations describes the monitors' routes.
func Operations() contract.Section {
	answer := func(status int, means string, of any, example string) contract.Answer {
		return contract.Answer{Status: status, Means: means, Of: of, Examples: []contract.Example{{Value: example}}}
	}
	noDatabaseProblem := problems(noDatabase(nil))
	return contract.Section{
		Name: "health", Title: "Monitors", Description: "What monitors ask. No token is asked for, and nothing here says anything about a customer.",
		Types: []contract.Type{
			{Of: state{}, Name: "State", Fields: map[string]contract.Bound{"status": contract.OneOf("ok", "ready")}},
			{Of: Report{}, Name: "Health", Fields: map[string]contract.Bound{"status": contract.OneOf("healthy", "degraded", "unhealthy")}},
		},
		Operations: []contract.Operation{
			{
				ID: "get_live", Method: "GET", Path: "/livez", Summary: "Does the process answer?",
				Answers: []contract.Answer{answer(200, "It does.", state{}, `{"status":"ok"}`)},
			},
			{
				ID: "get_ready", Method: "GET", Path: "/readyz", Summary: "May requests be sent to it?",
				Details:  "Whatever the backlog: a node that is behind must not be taken out of service.",
				Answers:  []contract.Answer{answer(200, "The database answers, and its schema fits.", state{}, `{"status":"ready"}`)},
				Problems: problems(notReady(nil)),
			},
			{
				ID: "get_health", Method: "GET", Path: "/webhooks/health", Summary: "Is it behind?",
				Answers: []contract.Answer{
					answer(200, "Healthy, or degraded with the reasons.", Report{}, `{"status":"degraded","database_connected":true,"queue_size":12,"queue_capacity":100000,`+
						`"queue_utilization":"0.0%","oldest_event_age_seconds":0.41,"concerns":["The endpoint crm-bot fails: `+"`memrelay endpoints show crm-bot`"+` says why."],"timestamp":"2026-11-22T05:03:44Z"}`),
					answer(503, "Unhealthy: the database does not answer.", Report{}, `{"status":"unhealthy","database_connected":false,"queue_size":12,"queue_capacity":100000,`+
						`"queue_utilization":"0.0%","oldest_event_age_seconds":0,"timestamp":"2026-11-22T05:03:44Z"}`),
				},
			},
			{
				ID: "get_metrics", Method: "GET", Path: "/webhooks/metrics", Summary: "Figures over all nodes", Problems: noDatabaseProblem,
				Answers: []contract.Answer{answer(200, "Sums since the database was made.", Metrics{}, `{"total_events":1000,"verified_events":998,"rejected_events":2,"duplicated_events":20,`+
					`"queued_events":978,"failed_events":0,"acceptance_rate":"99.8%","deduplication_rate":"2.0%","current_queue_size":12,"dead_letter_queue_size":0,"events_processed":966,`+
					`"events_succeeded":966,"events_failed":1,"events_retried":1,"events_dead_letter":0,"batches_processed":41,"average_processing_time":0.08,`+
					`"last_processed":"2026-11-22T05:03:44.1Z","success_rate":"100.0%","workers_running":50,"processor_running":true,"timestamp":"2026-11-22T05:03:44Z"}`)},
			},
		},
	}
}

// problems are the faces of errors.
func problems(all ...error) []*respond.Error {
	var faces []*respond.Error
	for _, err := range all {
		var face *respond.Error
		if errors.As(err, &face) {
			faces = append(faces, face)
		}
	}
	return faces
}
