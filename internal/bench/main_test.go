package main

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func names(t *testing.T, o options) []string {
	t.Helper()
	all, err := (&bench{o: o}).measurements()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range all {
		names = append(names, m.name)
	}
	return names
}

func TestWhatIsMeasured(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		o    options
		want []string
	}{
		{"everything, the baseline twice a round", options{},
			[]string{"pgbench", "door", "copy", "process", "zoho", "whole", "pgbench", "deliver", "walk", "fair", "agents", "river", "allocations"}},
		{"shortly, the same", options{quick: true},
			[]string{"pgbench", "door", "copy", "process", "zoho", "whole", "deliver", "walk", "fair", "agents", "river", "allocations"}},
		{"parts, in the order asked for", options{only: "walk,pgbench"}, []string{"walk", "pgbench"}},
		{"growth, beside pgbench of the same run", options{growth: true}, []string{"pgbench", "growth"}},
		{"one other thing", options{outage: time.Minute}, []string{"outage"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, names(t, tt.o)); diff != "" {
				t.Errorf("measurements (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := (&bench{o: options{only: "dor"}}).measurements(); err == nil {
		t.Error("a part that is none is no error")
	}
}

func TestAPartDoesNotReplaceAllFigures(t *testing.T) {
	t.Parallel()
	for _, o := range []options{{only: "door"}, {syncs: true}, {search: true}, {retention: true}, {outage: time.Minute}} {
		o.docs = t.TempDir()
		if err := o.checkDocs(); !errors.Is(err, errPart) {
			t.Errorf("%+v: the error is %v, want %v", o, err, errPart)
		}
	}
	for _, o := range []options{{}, {growth: true}, {bloat: time.Minute}, {quick: true}} {
		o.docs = t.TempDir()
		if err := o.checkDocs(); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestHowLongIsMeasured(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name            string
		o               options
		seconds, rounds int
	}{
		{"usually", options{}, 4, 3},
		{"shortly", options{quick: true}, 1, 1},
		{"what takes long is done once", options{bloat: time.Minute}, 4, 1},
		{"as it is asked for", options{quick: true, seconds: 7, rounds: 5}, 7, 5},
	} {
		if p := tt.o.plan(); p.seconds != tt.seconds || p.rounds != tt.rounds {
			t.Errorf("%s: %d s, %d rounds, want %d and %d", tt.name, p.seconds, p.rounds, tt.seconds, tt.rounds)
		}
	}
}
