package endpoint

import (
	"testing"

	"github.com/memrelay/memrelay/internal/memory"
)

func TestAudience(t *testing.T) {
	t.Parallel()
	const envelope = `{"event":"memory_added","user_id":"zoho:1","data":{"result":{"metadata":{"module":"Deals","id":5725767000000499002}}}}`
	for _, tt := range []struct {
		name            string
		events, userIDs []string
		filter          string
		event, userID   string
		payload         string
		want, asked     bool
	}{
		{name: "a named event", events: []string{memory.Added}, event: memory.Added, want: true},
		{name: "another event", events: []string{memory.Added}, event: memory.Deleted},
		{name: "* is all that tell of memory", events: []string{"*"}, event: memory.Deleted, want: true},
		{name: "* is none of the program itself", events: []string{"*"}, event: memory.EventDead},
		{name: "which are named", events: []string{"*", memory.EventDead}, event: memory.EventDead, want: true},
		{name: "no event at all", event: memory.Added},

		{name: "a named user", events: []string{"*"}, userIDs: []string{"a", "zoho:1"}, event: memory.Added, userID: "zoho:1", want: true},
		{name: "another user", events: []string{"*"}, userIDs: []string{"zoho:1"}, event: memory.Added, userID: "zoho:11"},
		{name: "a prefix", events: []string{"*"}, userIDs: []string{"zoho:*"}, event: memory.Added, userID: "zoho:11", want: true},
		{name: "another prefix", events: []string{"*"}, userIDs: []string{"zoho:*"}, event: memory.Added, userID: "agent:zoho:"},
		{name: "a user whose name ends in *", events: []string{"*"}, userIDs: []string{"a*"}, event: memory.Added, userID: "a*", want: true},

		{name: "data that is asked for", events: []string{"*"}, filter: `{"result.metadata.module":"Deals"}`, event: memory.Added, payload: envelope, want: true, asked: true},
		{name: "other data", events: []string{"*"}, filter: `{"result.metadata.module":"Tasks"}`, event: memory.Added, payload: envelope, asked: true},
		{name: "an id", events: []string{"*"}, filter: `{"result.metadata.id":5725767000000499002}`, event: memory.Added, payload: envelope, want: true, asked: true},
		{name: "all digits of an id", events: []string{"*"}, filter: `{"result.metadata.id":5725767000000499003}`, event: memory.Added, payload: envelope, asked: true},
		{name: "the filter sees the data, not the envelope", events: []string{"*"}, filter: `{"user_id":"zoho:1"}`, event: memory.Added, payload: envelope, asked: true},
		{name: "another event is not looked into", events: []string{memory.Added}, filter: `{"a":1}`, event: memory.Deleted, payload: envelope},
		{name: "another user's is not looked into", events: []string{"*"}, userIDs: []string{"b"}, filter: `{"a":1}`, event: memory.Deleted, userID: "a", payload: envelope},
		{name: "a payload that is gone", events: []string{"*"}, filter: `{"$not":{"a":1}}`, event: memory.Added, asked: true},
		{name: "a payload that is cut off", events: []string{"*"}, filter: `{"$not":{"a":1}}`, event: memory.Added, payload: envelope[:60], asked: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var filter []byte
			if tt.filter != "" {
				filter = []byte(tt.filter)
			}
			a, err := NewAudience(tt.events, tt.userIDs, filter)
			if err != nil {
				t.Fatal(err)
			}
			asked := false
			got := a.Wants(tt.event, tt.userID, func() (any, bool) { asked = true; return ReadData([]byte(tt.payload)) })
			if got != tt.want || asked != tt.asked {
				t.Errorf("wants %t, asked for the payload %t; want %t, %t", got, asked, tt.want, tt.asked)
			}
		})
	}
}

func TestNoAudienceOfAFilterThatIsNone(t *testing.T) {
	t.Parallel()
	if _, err := NewAudience([]string{"*"}, nil, []byte(`{"a":{"$like":"b"}}`)); err == nil {
		t.Error("no error")
	}
}
