package process

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestObserve(t *testing.T) {
	t.Parallel()
	received := time.Date(2024, 5, 6, 12, 0, 0, 0, time.UTC)
	before, earlier, after := received.Add(-2*time.Hour), received.Add(-time.Hour), received.Add(time.Hour)
	const modified = `{"Modified_Time":"2024-05-06T12:00:00+02:00"}` // two hours before its receipt
	for _, tt := range []struct {
		name              string
		operation, record string
		occurred          time.Time
		at, lifeAt        time.Time
		life              Life
	}{
		{"values are as old as the record says", "update", modified, earlier, before, earlier, LifeUnsaid},
		{"else as the sender's clock says", "update", `{}`, earlier, earlier, earlier, LifeUnsaid},
		{"else as ours does", "update", `{}`, time.Time{}, received, received, LifeUnsaid},
		{"a time that is none does not count", "update", `{"Modified_Time":"yesterday"}`, earlier, earlier, earlier, LifeUnsaid},
		{"life goes by the sender's clock", "create", modified, earlier, before, earlier, LifeThere},
		{"else by ours", "delete", modified, time.Time{}, before, received, LifeGone},
		{"a sender's clock that is ahead is not believed", "restore", `{}`, after, received, received, LifeThere},
		{"nor a record's", "create", `{"Modified_Time":"2024-05-06T13:00:00Z"}`, earlier, received, earlier, LifeThere},
		{"one does not make up for the other", "create", modified, after, before, received, LifeThere},
		{"null has no fields", "delete", `null`, earlier, earlier, earlier, LifeGone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var fields Fields
			if err := json.Unmarshal([]byte(tt.record), &fields); err != nil {
				t.Fatal(err)
			}
			want := Observation{EventID: 5, Module: "Contacts", RecordID: "1", Fields: fields, At: tt.at, Life: tt.life, LifeAt: tt.lifeAt}
			got := observe(Event{
				ID: 5, Module: "Contacts", RecordID: "1", Operation: tt.operation,
				OccurredAt: tt.occurred, ReceivedAt: received, Record: []byte(tt.record),
			})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPayloadsFaultsAreTheEventsOwn(t *testing.T) {
	t.Parallel()
	events := []Event{{ID: 1}, {ID: 2, Record: []byte(`{"a":1}`)}, {ID: 3, Record: []byte(`[]`)}, {ID: 4, Record: []byte(`{`)}}
	observations, err := Payloads{}.Observe(t.Context(), events)
	if err != nil {
		t.Fatal(err)
	}
	if err := check(events, observations); err != nil {
		t.Errorf("what payloads say is not believed: %v", err)
	}
	var got []string
	for _, o := range observations {
		text := ""
		if o.Err != nil {
			text = o.Err.Error()
		}
		got = append(got, text)
	}
	const noObject = "the event's record is not a JSON object"
	if diff := cmp.Diff([]string{errNoBody.Error(), "", noObject, noObject}, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	events := []Event{{ID: 1}, {ID: 2}}
	observations := []Observation{
		{EventID: 1, Fields: Fields{"a": nil, "b": json.RawMessage(`1`)}},
		{EventID: 2, Err: errNoBody, Fields: Fields{"a": json.RawMessage(`{`)}},
	}
	if err := check(events, observations); err != nil {
		t.Fatal(err)
	}
	// A value that is nothing at all is no JSON either; a fault that is there stays.
	if !errors.Is(observations[0].Err, errEvent) || !errors.Is(observations[1].Err, errNoBody) {
		t.Errorf("faults are %v and %v", observations[0].Err, observations[1].Err)
	}
	if err := check(events, observations[:1]); !errors.Is(err, errSource) {
		t.Errorf("an event that was left out: %v, want %v", err, errSource)
	}
	if err := check(events[1:], observations[:1]); !errors.Is(err, errSource) {
		t.Errorf("another event: %v, want %v", err, errSource)
	}
}
