package app

import (
	"net/http"

	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/api"
	"github.com/memrelay/memrelay/internal/catalogue"
	"github.com/memrelay/memrelay/internal/contract"
	"github.com/memrelay/memrelay/internal/contract/pages"
	"github.com/memrelay/memrelay/internal/health"
	"github.com/memrelay/memrelay/internal/inbound"
	"github.com/memrelay/memrelay/internal/mcp"
)

// Contract is what the API promises: each package says it of its own routes. A change
// that breaks clients raises the version's first number.
func Contract() (contract.API, error) {
	events, err := catalogue.New()
	if err != nil {
		return contract.API{}, err
	}
	schemes := inbound.Schemes()
	sections := []contract.Section{api.Operations(), mcp.Operations(), events.Operations(), inbound.Operations()}
	sections = append(sections, admin.Operations()...)
	sections = append(sections, syncOperations(), webhookOperations(), health.Operations(), pages.Operations())
	return contract.API{
		Info: contract.Info{
			Title: "memrelay", Version: "1.0.0",
			Description: "memrelay keeps an AI memory true to Zoho CRM, and tells endpoints of every change. Errors are application/problem+json (RFC 9457) everywhere, " +
				"with a code for programs. Answers may gain fields; requests with fields that are not named here are refused.",
		},
		Servers:  []contract.Server{{URL: "/", Description: "Where this document came from."}},
		Sections: sections, Schemes: schemes, Events: eventsOf(events), Webhook: outgoing(), Meanings: meanings(),
	}, nil
}

// meanings are those of fields that mean the same wherever they stand.
func meanings() map[string]string {
	return map[string]string{
		"id": "Its id.", "user_id": "Whose memory it is.", "content": "The text that is remembered.", "kind": "Of which kind it is.", "metadata": "What was stored beside it.",
		"created_at": "When it was made.", "updated_at": "When it changed last.", "finished_at": "When it ended; null before.", "ended_at": "When it ended; null before.",
		"received_at": "When it came in.", "started_at": "When it began.", "at": "When it was.", "expires_at": "When it ends.", "timestamp": "When this was answered.",
		"reason": "Why.", "actor": "Who did it.", "name": "What it is called.", "status": "How it stands.", "state": "How it stands.",
		"event": "Which event.", "event_id": "The event's id, as its sender calls it.", "webhook_id": "The webhook's id.", "endpoint_id": "The endpoint's id.", "module": "What kind of record it is about.",
		"record_id": "Which record it is about.", "error": "What went wrong; empty when nothing did.", "last_error": "What went wrong last.", "url": "Where webhooks are sent.",
		"description": "For people.", "events": "Which events.", "source": "Where the line begins.", "target": "Where it ends.", "relationship": "What it means, as WORKS_AT.",
		"message": "For people.", "secret": "The secret.", "deleted": "What was deleted, or whether.", "since": "From when on.", "until": "Until when.",
	}
}

func eventsOf(c *catalogue.Catalogue) []contract.Event {
	types := c.Types()
	events := make([]contract.Event, len(types))
	for i, t := range types {
		events[i] = contract.Event{Name: t.Name, Description: t.Description, Schema: t.Schema, Example: t.Example}
	}
	return events
}

// outgoing is what the webhooks of all events have in common.
func outgoing() contract.Operation {
	header := func(name, means string, required bool, example string) contract.Param {
		return contract.Param{Name: name, In: "header", Means: means, Required: required, Schema: contract.Bounded("string"), Example: example}
	}
	return contract.Operation{
		Summary: "What is sent to endpoints, at least once. An endpoint that asks for batches gets a JSON array of these with webhook_id in front of each; " +
			"one of the form standard gets Standard Webhooks' {type, timestamp, data}. docs/webhooks-out.md says what follows from an answer, docs/receiving.md how to receive.",
		Details: "The whole of what is told.",
		Proofs:  [][]string{{"webhook_signature", "standard_webhooks"}, {}},
		Params: []contract.Param{
			header("webhook-id", "The same for every attempt: what was seen before is to be answered 2xx and left alone.", true, "01a201a3-89ed-769a-b1f9-2106af11e64b"),
			header("webhook-timestamp", "When this attempt was made, in seconds since 1970.", true, "1795323824"),
			header("webhook-signature", "That of Standard Webhooks, one for each key; missing where the endpoint has none.", false, "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="),
			header("X-Webhook-Signature", "Hex HMAC-SHA256 of the body; missing where the endpoint has no such key.", false, "sha256=5f1c…"),
		},
		Answers: []contract.Answer{
			{Status: http.StatusNoContent, Means: "Received. Any other 2xx says so, too."},
			{Status: http.StatusGone, Means: "The endpoint wants no more: it is disabled."},
			{Status: http.StatusServiceUnavailable, Means: "Not now: it is tried again, after Retry-After at the earliest. So is any other failure."},
		},
	}
}
