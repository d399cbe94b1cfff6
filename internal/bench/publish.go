package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// report is what is kept of a run.
type report struct {
	Machine machine  `json:"machine"`
	Seconds int      `json:"seconds_of_load"`
	Rounds  int      `json:"rounds"`
	Figures []figure `json:"figures"`
}

// errNoPlace is returned for a page that does not say where its table goes.
var errNoPlace = errors.New("the page has no place for the table")

// errPart is returned when a part of the figures is to replace all of them.
var errPart = errors.New("-docs is for everything, -growth and -bloat: a part would replace all figures")

// publish writes JSON and chart into the folder of the documentation, and the table into
// its page; nothing unless that was asked for.
func (b *bench) publish(m machine, all []figure) error {
	if b.o.docs == "" {
		return nil
	}
	name := b.o.place()
	text, err := json.MarshalIndent(report{Machine: m, Seconds: b.plan.seconds, Rounds: b.plan.rounds, Figures: all}, "", "  ")
	if err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	if err := os.WriteFile(filepath.Join(b.o.docs, name+".json"), append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	if b.o.bloat == 0 { // which has drawn its own
		if err := writeChart(b.o.docs, name, chart(all)); err != nil {
			return err
		}
	}
	page := filepath.Join(b.o.docs, "performance.md")
	old, err := os.ReadFile(page)
	if err != nil {
		return fmt.Errorf("read the page: %w", err)
	}
	var table bytes.Buffer
	fmt.Fprintf(&table, "%s %d rounds, %d s of load in each measurement.\n\n", m, b.plan.rounds, b.plan.seconds)
	if err := print(&table, all); err != nil {
		return err
	}
	fmt.Fprintf(&table, "\n![%s](%s.svg)\n\nAll rounds: [%s.json](%s.json).\n", b.o.title(), name, name, name)
	now, err := between(old, name, table.Bytes())
	if err != nil {
		return err
	}
	return os.WriteFile(page, now, 0o644)
}

// checkDocs refuses to put a part where all of it stands.
func (o options) checkDocs() error {
	if o.docs != "" && (o.only != "" || o.syncs || o.search || o.retention || o.lists || o.outage > 0) {
		return errPart
	}
	return nil
}

// title is what a run's chart shows.
func (o options) title() string {
	if o.bloat > 0 {
		return "Sizes of tables over time"
	}
	return "Rates beside pgbench's"
}

// place is what a run's files and its table are called.
func (o options) place() string {
	switch {
	case o.growth:
		return "performance-growth"
	case o.bloat > 0:
		return "performance-bloat"
	}
	return "performance"
}

func writeChart(docs, name string, svg []byte) error {
	if err := os.WriteFile(filepath.Join(docs, name+".svg"), svg, 0o644); err != nil {
		return fmt.Errorf("write the chart: %w", err)
	}
	return nil
}

// between puts text between the two comments of a page that name its place.
func between(page []byte, name string, text []byte) ([]byte, error) {
	begin, end := []byte("<!-- "+name+" -->\n"), []byte("<!-- /"+name+" -->\n")
	before, rest, found := bytes.Cut(page, begin)
	_, after, closed := bytes.Cut(rest, end)
	if !found || !closed {
		return nil, fmt.Errorf("%w: it wants the lines %s and %s", errNoPlace, bytes.TrimSpace(begin), bytes.TrimSpace(end))
	}
	return bytes.Join([][]byte{before, begin, text, end, after}, nil), nil
}
