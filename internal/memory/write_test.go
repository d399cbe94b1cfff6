package memory

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
)

func TestWhatIsWrittenIsWhatLasts(t *testing.T) {
	t.Parallel()
	one, two := uuid.UUID{1}, uuid.UUID{2}
	at := func(id uuid.UUID, content string) *Row { return &Row{ID: id, Content: content} }
	for _, tt := range []struct {
		name    string
		changes []Change
		want    []Change
	}{
		{"nothing", nil, nil},
		{
			"changes of two memories", []Change{{Before: at(one, "a"), After: at(one, "b")}, {After: at(two, "x")}},
			[]Change{{Before: at(one, "a"), After: at(one, "b")}, {After: at(two, "x")}},
		}, {
			"one memory that changes three times", []Change{
				{Before: at(one, "a"), After: at(one, "b")}, {After: at(two, "x")},
				{Before: at(one, "b"), After: at(one, "c")}, {Before: at(one, "c"), After: at(one, "d")},
			},
			[]Change{{Before: at(one, "a"), After: at(one, "d")}, {After: at(two, "x")}},
		}, {
			"changed, then deleted", []Change{{Before: at(one, "a"), After: at(one, "b")}, {Before: at(one, "b")}},
			[]Change{{Before: at(one, "a")}},
		}, {
			"added, then changed", []Change{{After: at(one, "a")}, {Before: at(one, "a"), After: at(one, "b")}},
			[]Change{{After: at(one, "b")}},
		},
		{"added, then deleted", []Change{{After: at(one, "a")}, {Before: at(one, "a")}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, lasting(tt.changes), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLinesThatAreWritten(t *testing.T) {
	t.Parallel()
	one, two := uuid.UUID{1}, uuid.UUID{2}
	at := func(id uuid.UUID, confidence float64) Link { return Link{ID: id, Confidence: confidence} }
	drawn := func(id uuid.UUID, confidence float64) LinkChange { return LinkChange{Link: at(id, confidence)} }
	removed := func(id uuid.UUID, confidence float64) LinkChange {
		return LinkChange{Link: at(id, confidence), Gone: true}
	}
	for _, tt := range []struct {
		name    string
		changes []LinkChange
		gone    []uuid.UUID
		drawn   []Link
	}{
		{"nothing", nil, nil, nil},
		{"one comes, one goes", []LinkChange{removed(one, 1), drawn(two, 1)}, []uuid.UUID{one}, []Link{at(two, 1)}},
		{"less sure", []LinkChange{removed(one, 1), drawn(one, 0.5)}, []uuid.UUID{one}, []Link{at(one, 0.5)}},
		{"less sure, then gone", []LinkChange{removed(one, 1), drawn(one, 0.5), removed(one, 0.5)}, []uuid.UUID{one, one}, nil},
		{
			"less sure twice", []LinkChange{removed(one, 1), drawn(one, 0.5), removed(one, 0.5), drawn(one, 0.2)},
			[]uuid.UUID{one, one}, []Link{at(one, 0.2)},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			gone, drawn := lastingLines(tt.changes)
			if diff := cmp.Diff(tt.gone, gone); diff != "" {
				t.Errorf("removed (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.drawn, drawn); diff != "" {
				t.Errorf("drawn (-want +got):\n%s", diff)
			}
		})
	}
}
