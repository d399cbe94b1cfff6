package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPercentileIsTheNearestRank(t *testing.T) {
	t.Parallel()
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(i + 1)
	}
	for _, tt := range []struct {
		name   string
		sorted []float64
		share  float64
		want   float64
	}{
		{"nothing", nil, 0.5, 0},
		{"one", []float64{7}, 0.999, 7},
		{"the half of four", []float64{1, 2, 3, 4}, 0.5, 2},
		{"the half of five", []float64{1, 2, 3, 4, 5}, 0.5, 3},
		{"p99 of a hundred is not the greatest", hundred, 0.99, 99},
		{"p99.9 of a hundred is the greatest", hundred, 0.999, 100},
		{"the least", hundred, 0, 1},
		{"the greatest", hundred, 1, 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := percentile(tt.sorted, tt.share); got != tt.want {
				t.Errorf("percentile = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 9}, 3}} {
		if got := median(tt.values); got != tt.want {
			t.Errorf("median of %v = %v, want %v", tt.values, got, tt.want)
		}
	}
}

func TestFiguresStandBesidePgbenchAndTheirGoals(t *testing.T) {
	t.Parallel()
	all := summarise([]row{
		{baseline, perSecond, 4000}, {doorAt128, perSecond, 7000}, {doorAt128 + ": p99", "ms", 30}, {idleMemory, "MB", 61}, {apiFollowed, "ms", 3},
		{baseline, perSecond, 6000}, {doorAt128, perSecond, 12000}, {doorAt128 + ": p99", "ms", 20}, {idleMemory, "MB", 25}, {apiFollowed, "ms", 3},
		{baseline, perSecond, 5000}, {doorAt128, perSecond, 9000}, {doorAt128 + ": p99", "ms", 25}, {idleMemory, "MB", 59}, {apiFollowed, "ms", 3},
	})
	missed, met := false, true
	want := []figure{
		{What: baseline, Unit: perSecond, Values: []float64{4000, 6000, 5000}, Median: 5000, Least: 4000, Most: 6000},
		{What: doorAt128, Unit: perSecond, Values: []float64{7000, 12000, 9000}, Median: 9000, Least: 7000, Most: 12000, Ratio: 1.8, Goal: "≥ 2.0 × pgbench", Met: &missed},
		{What: doorAt128 + ": p99", Unit: "ms", Values: []float64{30, 20, 25}, Median: 25, Least: 20, Most: 30},
		{What: idleMemory, Unit: "MB", Values: []float64{61, 25, 59}, Median: 59, Least: 25, Most: 61, Goal: "≤ 60 MB", Met: &met},
		// What it is compared with was not measured.
		{What: apiFollowed, Unit: "ms", Values: []float64{3, 3, 3}, Median: 3, Least: 3, Most: 3},
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("figures (-want +got):\n%s", diff)
	}
}

func TestTheTableSaysWhatWasMissed(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	err := print(&out, summarise([]row{{baseline, perSecond, 5000}, {doorAt128, perSecond, 9000}, {idleMemory, "MB", 25.456}}))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 5 {
		t.Fatalf("the table has %d lines:\n%s", len(lines), &out)
	}
	squeezed := func(line string) string { return strings.Join(strings.Fields(line), " ") }
	if got, want := squeezed(lines[3]), "| door at 128 connections | events/s | 9000 | 9000 | 9000 | 1.80 | ≥ 2.0 × pgbench | **no** |"; got != want {
		t.Errorf("the line is %s, want %s", got, want)
	}
	if got, want := squeezed(lines[4]), "| memory, idle | MB | 25.46 | 25.46 | 25.46 | | ≤ 60 MB | yes |"; got != want {
		t.Errorf("the line is %s, want %s", got, want)
	}
}
