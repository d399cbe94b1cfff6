package process

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// emptyRecord is a record as it is made to have a row to lock.
func emptyRecord(k recordKey) *record {
	return &record{module: k.module, id: k.id, accountID: "77", data: Fields{}, times: map[string]stamp{}}
}

func sameRecord() cmp.Option {
	return cmp.Options{
		cmp.AllowUnexported(record{}, stamp{}),
		// What was stored comes back with other spaces.
		cmp.Transformer("JSON", func(raw json.RawMessage) (value any) {
			if err := json.Unmarshal(raw, &value); err != nil {
				return err.Error()
			}
			return value
		}),
	}
}

// story makes up events: of few records and accounts, at few times, so that they
// meet in all ways. Ids and receipts follow the order of arrival.
func story(r *rand.Rand, keys []recordKey, accounts, events int) []Event {
	start := time.Date(2024, 5, 6, 7, 8, 9, 123456000, time.UTC)
	some := func(values ...string) string { return values[r.IntN(len(values))] }
	at := func() time.Time { return start.Add(time.Duration(r.IntN(12)) * time.Minute) }
	told := make([]Event, events)
	for i := range told {
		k := keys[r.IntN(len(keys))]
		fields := map[string]any{}
		for _, name := range []string{"Email", "Phone", "Subject", "Industry"} {
			switch r.IntN(4) {
			case 0:
				fields[name] = nil
			case 1, 2:
				fields[name] = some("a", "b", "c")
			}
		}
		link := map[string]any{"id": fmt.Sprint(700 + r.IntN(accounts)), "name": some("Acme", "Bolt")}
		switch k.module {
		case "Contacts", "Deals":
			if n := r.IntN(6); n == 0 {
				fields["Account_Name"] = nil
			} else if n < 4 {
				fields["Account_Name"] = link
			}
		case "Tasks":
			if r.IntN(2) == 0 {
				fields["What_Id"] = link
			}
			if r.IntN(2) == 0 {
				fields["$se_module"] = some("Accounts", "Deals")
			}
		}
		if r.IntN(2) == 0 {
			// Some are ahead of everything.
			fields["Modified_Time"] = at().Add(time.Duration(r.IntN(3)) * 20 * time.Minute).Format(time.RFC3339)
		}
		record, err := json.Marshal(fields)
		if err != nil {
			panic(err)
		}
		e := Event{
			ID: int64(i + 1), Module: k.module, RecordID: k.id, Record: record,
			Operation:  some("create", "update", "update", "update", "delete", "restore"),
			ReceivedAt: start.Add(time.Duration(i*20/events) * time.Minute),
		}
		if r.IntN(3) > 0 {
			e.OccurredAt = at()
		}
		told[i] = e
	}
	return told
}

// foldAll is what the events make of their records.
func foldAll(events []Event) map[recordKey]*record {
	records := map[recordKey]*record{}
	for _, e := range events {
		k := recordKey{e.Module, e.RecordID}
		if records[k] == nil {
			records[k] = emptyRecord(k)
		}
		records[k].fold(observe(e))
	}
	return records
}

// newest says the same in another way: of each field the greatest time, then id.
func newest(k recordKey, events []Event) *record {
	r := emptyRecord(k)
	var life Observation
	for _, e := range events {
		o := observe(e)
		for name, value := range o.Fields {
			old, ok := r.times[name]
			if ok && (old.micros > o.At.UnixMicro() || (old.micros == o.At.UnixMicro() && old.eventID > o.EventID)) {
				continue
			}
			r.data[name], r.times[name] = value, stamp{o.At.UnixMicro(), o.EventID}
		}
		if len(o.Fields) > 0 && o.At.After(r.modifiedAt) {
			r.modifiedAt = o.At
		}
		later := o.LifeAt.After(life.LifeAt) || (o.LifeAt.Equal(life.LifeAt) && o.EventID > life.EventID)
		if o.Life != LifeUnsaid && later {
			life = o
		}
	}
	r.lifeAt, r.lifeEventID = life.LifeAt, life.EventID
	if life.Life == LifeGone {
		r.deletedAt = life.LifeAt
	}
	if id, known := accountOf(k.module, k.id, r.data); known {
		r.accountID = id
	} else {
		r.accountID = ownLane(k.module, k.id)
	}
	return r
}

func TestFoldIsTheSameInAnyOrder(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		k := recordKey{[]string{"Accounts", "Contacts", "Deals", "Tasks"}[seed%4], "1"}
		events := story(r, []recordKey{k}, 3, 2+r.IntN(12))
		want := newest(k, events)
		for range 6 {
			// Repeated at random, and in any order.
			again := events
			for range r.IntN(len(events)) {
				again = append(again[:len(again):len(again)], events[r.IntN(len(events))])
			}
			r.Shuffle(len(again), func(i, j int) { again[i], again[j] = again[j], again[i] })
			if diff := cmp.Diff(want, foldAll(again)[k], sameRecord()); diff != "" {
				t.Fatalf("seed %d (-want +got):\n%s", seed, diff)
			}
		}
	}
}

// Nothing is lost on the way to the database and back.
func TestFoldGoesOnFromWhatIsStored(t *testing.T) {
	t.Parallel()
	want := stamp{micros: time.Date(2024, 5, 6, 7, 8, 9, 123456789, time.UTC).UnixMicro(), eventID: 1<<60 + 1}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("[1714979289123456,1152921504606846977]", string(text)); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	var got stamp
	if err := json.Unmarshal(text, &got); err != nil || got != want {
		t.Errorf("read back as %v (%v), want %v", got, err, want)
	}
	if err := json.Unmarshal([]byte(`"x"`), &got); err == nil {
		t.Error("a stamp that is none was read")
	}
}

func TestFold(t *testing.T) {
	t.Parallel()
	at := func(minute int) time.Time { return time.Date(2024, 1, 1, 0, minute, 0, 0, time.UTC) }
	value := func(id int64, at time.Time, text string) Observation {
		return Observation{EventID: id, At: at, Fields: Fields{"Email": json.RawMessage(text)}}
	}
	life := func(id int64, at time.Time, life Life) Observation {
		return Observation{EventID: id, At: at, Life: life, LifeAt: at}
	}
	type result struct {
		Email   string
		Deleted bool
	}
	for _, tt := range []struct {
		name string
		fold []Observation
		want result
	}{
		{"nothing is known of a field that nobody named", []Observation{{EventID: 1, At: at(1)}}, result{}},
		{"the newer value wins", []Observation{value(1, at(1), `"a"`), value(2, at(2), `"b"`)}, result{Email: `"b"`}},
		{"also when the older one comes later", []Observation{value(1, at(2), `"b"`), value(2, at(1), `"a"`)}, result{Email: `"b"`}},
		{"at the same time the later event", []Observation{value(2, at(1), `"b"`), value(1, at(1), `"a"`)}, result{Email: `"b"`}},
		{"null clears", []Observation{value(1, at(1), `"a"`), value(2, at(2), `null`)}, result{Email: `null`}},
		{"what was cleared is not brought back by an older value", []Observation{value(1, at(2), `null`), value(2, at(1), `"a"`)}, result{Email: `null`}},
		{"a deletion stays against a later update", []Observation{life(1, at(1), LifeGone), value(2, at(9), `"a"`)}, result{`"a"`, true}},
		{"a later create revives", []Observation{life(1, at(1), LifeGone), life(2, at(2), LifeThere)}, result{}},
		{"an older create does not", []Observation{life(1, at(2), LifeGone), life(2, at(1), LifeThere)}, result{Deleted: true}},
		{"at the same time the later event says whether it lives", []Observation{life(2, at(1), LifeGone), life(1, at(1), LifeThere)}, result{Deleted: true}},
		{"a deletion that comes late is one", []Observation{life(2, at(2), LifeThere), life(1, at(3), LifeGone)}, result{Deleted: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := emptyRecord(recordKey{"Contacts", "1"})
			for _, o := range tt.fold {
				r.fold(o)
			}
			got := result{string(r.data["Email"]), !r.deletedAt.IsZero()}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A fold changes the record and nothing else: observations are shared with
// further tries of the same group.
func TestFoldLeavesItsObservationsAlone(t *testing.T) {
	t.Parallel()
	o := Observation{EventID: 1, At: time.Now(), Fields: Fields{"Email": json.RawMessage(`"a"`)}}
	r := emptyRecord(recordKey{"Contacts", "1"})
	r.fold(o)
	r.data["Email"] = json.RawMessage(`"b"`)
	if diff := cmp.Diff(Fields{"Email": json.RawMessage(`"a"`)}, o.Fields); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if maps.Equal(r.times, map[string]stamp{}) {
		t.Error("no time was kept")
	}
}

func TestModifiedTime(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, value string
		want        time.Time // zero: none
	}{
		{"in UTC", `"2024-05-06T07:08:09Z"`, time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)},
		{"with an offset, as Zoho sends it", `"2024-05-06T07:08:09+05:30"`, time.Date(2024, 5, 6, 1, 38, 9, 0, time.UTC)},
		{"with spaces around it", `" 2024-05-06T07:08:09Z "`, time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)},
		{"finer than it is stored", `"2024-05-06T07:08:09.123456789Z"`, time.Date(2024, 5, 6, 7, 8, 9, 123456000, time.UTC)},
		{"from before there was a Zoho", `"1999-12-31T23:59:59Z"`, time.Time{}},
		{"without an offset", `"2024-05-06 07:08:09"`, time.Time{}},
		{"a number", `1714979289`, time.Time{}},
		{"null", `null`, time.Time{}},
		{"an object", `{}`, time.Time{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := modifiedTime(Fields{"Modified_Time": json.RawMessage(tt.value)})
			if ok == tt.want.IsZero() || !got.Equal(tt.want) {
				t.Errorf("%s is %v (%t), want %v", tt.value, got, ok, tt.want)
			}
		})
	}
	if _, ok := modifiedTime(nil); ok {
		t.Error("a time was read from no fields")
	}
}
