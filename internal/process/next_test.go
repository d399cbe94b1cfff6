package process

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestNextRun(t *testing.T) {
	t.Parallel()
	now := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	soon, later := now.Add(time.Second), now.Add(time.Minute)
	for _, tt := range []struct {
		name    string
		unit    synced
		lane    accountLane
		retryAt time.Time
		want    run
	}{
		{"nothing is left to do", synced{upTo: 3}, accountLane{wanted: 3}, time.Time{}, run{wanted: 3}},
		{"something came meanwhile", synced{upTo: 3}, accountLane{wanted: 4, due: &soon}, time.Time{}, run{4, soon}},
		{"it came and is late", synced{upTo: 3}, accountLane{wanted: 4, due: &now}, time.Time{}, run{4, now}},
		{"it came, and another attempt of this job has taken it", synced{upTo: 3}, accountLane{wanted: 4}, time.Time{}, run{4, now}},
		// What the sync leaves to itself is work that it brings.
		{"more than was taken", synced{upTo: 3, cut: true}, accountLane{wanted: 3}, time.Time{}, run{4, now}},
		{"more than was taken, and something came for later", synced{upTo: 3, cut: true}, accountLane{wanted: 4, due: &soon}, time.Time{}, run{5, now}},
		{"an event is to be tried again", synced{upTo: 3}, accountLane{wanted: 3}, soon, run{4, soon}},
		{"again, and something comes before", synced{upTo: 3}, accountLane{wanted: 4, due: &soon}, later, run{5, soon}},
		{"again, and something comes after", synced{upTo: 3}, accountLane{wanted: 4, due: &later}, soon, run{5, soon}},
		{"all of it", synced{upTo: 3, cut: true}, accountLane{wanted: 5, due: &later}, soon, run{6, now}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := nextRun(tt.unit, &tt.lane, tt.retryAt, now)
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(run{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if open := got.wanted > tt.unit.upTo; open == got.due.IsZero() {
				t.Errorf("%+v: a lane has a next run if, and only if, it wants more than is done", got)
			}
		})
	}
}
