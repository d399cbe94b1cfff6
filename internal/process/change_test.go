package process

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
	as := func(id uuid.UUID, account, email, modifiedTime string) *remembered {
		m := memory.Memory{
			UserID: "zoho:" + account, Kind: "contact", Content: "Contact\nEmail: " + email,
			Metadata: map[string]string{
				"source": "zoho", "module": "Contacts", "record_id": "1", "account_id": account, "modified_time": modifiedTime,
			},
		}
		return &remembered{id: id, accountID: account, memory: m, checksum: m.Checksum()}
	}
	const then, now = "2020-01-01T00:00:00Z", "2024-05-06T06:08:09Z"
	old := as(oldID, "77", "a", then)
	k := recordKey{"Contacts", "1"}
	for _, tt := range []struct {
		name string
		r    *record
		old  *remembered
		want []change
		told []string
	}{
		{"nothing is known and nothing was remembered", without(known("77", ""), func(r *record) { r.data = nil }), nil, nil, nil},
		{
			"what is new is added", known("77", "a"), nil,
			[]change{{k, nil, as(newID, "77", "a", now), 5}}, []string{"memory_added zoho:77"},
		}, {
			"a change that can be read is told, under the same id", known("77", "b"), old,
			[]change{{k, old, as(oldID, "77", "b", now), 5}}, []string{"memory_updated zoho:77"},
		},
		{"another time of modification is no change", known("77", "a"), old, nil, nil},
		{
			"what is gone is forgotten", without(known("77", "a"), func(r *record) { r.deletedAt = modified }), old,
			[]change{{k, old, nil, 5}}, []string{"memory_deleted zoho:77"},
		},
		{"what is gone and was not remembered is not added", without(known("77", "a"), func(r *record) { r.deletedAt = modified }), nil, nil, nil},
		{
			"what moves is gone at one user and new at the other", known("88", "a"), old,
			[]change{{k, old, nil, 5}, {k, nil, as(newID, "88", "a", now), 5}}, []string{"memory_deleted zoho:77", "memory_added zoho:88"},
		}, {
			"what was never modified says no time", without(known("77", "b"), func(r *record) { r.modifiedAt = time.Time{} }), old,
			[]change{{k, old, without2(as(oldID, "77", "b", ""), "modified_time"), 5}}, []string{"memory_updated zoho:77"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := changesOf(tt.r, nil, tt.old, 5, func() uuid.UUID { return newID })
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(change{}, remembered{}, recordKey{})); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			var told []string
			for _, c := range got {
				event, userID, data := c.told()
				told = append(told, event+" "+userID)
				switch d := data.(type) {
				case memory.AddedData:
					compareSnapshot(t, c.after, d.Result)
				case memory.DeletedData:
					compareSnapshot(t, c.before, d.Result)
				case memory.UpdatedData:
					compareSnapshot(t, c.before, d.Before)
					compareSnapshot(t, c.after, d.After)
				default:
					t.Errorf("told %T", data)
				}
			}
			if diff := cmp.Diff(tt.told, told); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
		})
	}
}

// without2 leaves a key out of the metadata.
func without2(r *remembered, key string) *remembered {
	delete(r.memory.Metadata, key)
	return r
}

func compareSnapshot(t *testing.T, want *remembered, got memory.Snapshot) {
	t.Helper()
	if diff := cmp.Diff(memory.Snapshot{ID: want.id, Content: want.memory.Content, Metadata: want.memory.Metadata}, got); diff != "" {
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
