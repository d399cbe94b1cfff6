package process

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/memory"
)

func TestChangesOf(t *testing.T) {
	t.Parallel()
	oldID, newID := uuid.MustParse("00000000-0000-0000-0000-000000000001"), uuid.MustParse("00000000-0000-0000-0000-000000000002")
	modified := time.Date(2024, 5, 6, 7, 8, 9, 0, time.FixedZone("", 3600))
	known := func(account, email string) *record {
		return &record{module: "Contacts", id: "1", accountID: account, data: Fields{"Email": json.RawMessage(`"` + email + `"`)}, modifiedAt: modified}
	}
	without := func(r *record, change func(*record)) *record { change(r); return r }
	as := func(id uuid.UUID, account, email, modifiedTime string) *memory.Row {
		return &memory.Row{
			ID: id, UserID: "zoho:" + account, Kind: "contact", Content: "Contact\nEmail: " + email,
			Metadata: map[string]any{
				"source": "zoho", "module": "Contacts", "record_id": "1", "account_id": account, "modified_time": modifiedTime,
			},
			AccountID: account, Module: "Contacts", RecordID: "1",
		}
	}
	const then, now = "2020-01-01T00:00:00Z", "2024-05-06T06:08:09Z"
	old := as(oldID, "77", "a", then)
	change := func(before, after *memory.Row) memory.Change {
		return memory.Change{Before: before, After: after, EventID: 5}
	}
	for _, tt := range []struct {
		name string
		r    *record
		old  *memory.Row
		want []memory.Change
		told []string
	}{
		{"nothing is known and nothing was remembered", without(known("77", ""), func(r *record) { r.data = nil }), nil, nil, nil},
		{
			"what is new is added", known("77", "a"), nil,
			[]memory.Change{change(nil, as(newID, "77", "a", now))}, []string{"memory_added zoho:77"},
		}, {
			"a change that can be read is told, under the same id", known("77", "b"), old,
			[]memory.Change{change(old, as(oldID, "77", "b", now))}, []string{"memory_updated zoho:77"},
		},
		{"another time of modification is no change", known("77", "a"), old, nil, nil},
		{
			"what is gone is forgotten", without(known("77", "a"), func(r *record) { r.deletedAt = modified }), old,
			[]memory.Change{change(old, nil)}, []string{"memory_deleted zoho:77"},
		},
		{"what is gone and was not remembered is not added", without(known("77", "a"), func(r *record) { r.deletedAt = modified }), nil, nil, nil},
		{
			"what moves is gone at one user and new at the other", known("88", "a"), old,
			[]memory.Change{change(old, nil), change(nil, as(newID, "88", "a", now))}, []string{"memory_deleted zoho:77", "memory_added zoho:88"},
		}, {
			"what was never modified says no time", without(known("77", "b"), func(r *record) { r.modifiedAt = time.Time{} }), old,
			[]memory.Change{change(old, without2(as(oldID, "77", "b", ""), "modified_time"))}, []string{"memory_updated zoho:77"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := changesOf(tt.r, nil, tt.old, 5, func() uuid.UUID { return newID })
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(memory.Change{}, "Told")); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			var told []string
			for _, c := range got {
				told = append(told, c.Told.Event+" "+c.Told.UserID)
				switch d := c.Told.Data.(type) {
				case memory.AddedData:
					compareSnapshot(t, c.After, d.Result)
				case memory.DeletedData:
					compareSnapshot(t, c.Before, d.Result)
				case memory.UpdatedData:
					compareSnapshot(t, c.Before, d.Before)
					compareSnapshot(t, c.After, d.After)
				default:
					t.Errorf("told %T", d)
				}
			}
			if diff := cmp.Diff(tt.told, told); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
		})
	}
}

// without2 leaves a key out of the metadata.
func without2(r *memory.Row, key string) *memory.Row {
	delete(r.Metadata, key)
	return r
}

func compareSnapshot(t *testing.T, want *memory.Row, got memory.Snapshot) {
	t.Helper()
	if diff := cmp.Diff(memory.Snapshot{ID: want.ID, Content: want.Content, Metadata: want.Metadata}, got); diff != "" {
		t.Errorf("snapshot (-want +got):\n%s", diff)
	}
}

func TestRecordsAreLockedInTheOrderOfTheirKeys(t *testing.T) {
	t.Parallel()
	keys := map[recordKey]bool{{"B", "1"}: true, {"A", "2"}: true, {"A", "10"}: true, {"C", ""}: true}
	modules, ids := splitKeys(sortedRecordKeys(keys))
	if diff := cmp.Diff([][]string{{"A", "A", "B", "C"}, {"10", "2", "1", ""}}, [][]string{modules, ids}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
