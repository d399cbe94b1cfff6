// Command bench measures memrelay beside Postgres itself: the same rows go in through
// HTTP and through pgbench, one transaction per event, in one run on one private server
// with fsync on; then come the walk of an event, what goes out, and what agents call.
// In goes how long and how often to measure, out come a table, the figures of all rounds
// as JSON, and a chart.
//
//	go run ./internal/bench                 everything, in less than a quarter of an hour
//	go run ./internal/bench -quick          the same in less than a minute; says little
//	go run ./internal/bench -only door      a part; -only help lists them
//	go run ./internal/bench -growth         with up to ten million events stored
//	go run ./internal/bench -lists          the pages of operators' lists, with 100,000 events stored
//	go run ./internal/bench -retention      while a million old events are deleted
//	go run ./internal/bench -bloat 20m      what tables grow to under a steady load
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/memrelay/memrelay/internal/localpg"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	flag.IntVar(&o.seconds, "seconds", 0, "of load in each measurement (default: 4, with -quick 1)")
	flag.IntVar(&o.rounds, "rounds", 0, "how often each measurement is repeated, interleaved (default: 3, with -quick 1)")
	flag.BoolVar(&o.quick, "quick", false, "measure shortly")
	flag.StringVar(&o.only, "only", "", "measure these parts, by name and with commas between them")
	flag.BoolVar(&o.growth, "growth", false, "measure with millions of events stored instead; takes an hour and 35 GB")
	flag.Int64Var(&o.most, "most", 10*million, "events that are stored at most with -growth")
	flag.DurationVar(&o.bloat, "bloat", 0, "measure what tables grow to in so long a time instead")
	flag.BoolVar(&o.syncs, "syncs", false, "measure syncs of Zoho instead")
	flag.BoolVar(&o.search, "search", false, "measure searches among a million memories instead; takes some minutes and 3 GB")
	flag.BoolVar(&o.lists, "lists", false, "measure the pages of operators' lists instead")
	flag.BoolVar(&o.retention, "retention", false, "measure the door while old events are deleted instead; takes some minutes and 2 GB")
	flag.DurationVar(&o.outage, "outage", 0, "measure what follows when a receiver is away for so long instead")
	flag.StringVar(&o.dir, "dir", "", "where the server's data lies; a disk, not memory (default: a folder for temporary files)")
	flag.StringVar(&o.docs, "docs", "", "the folder of performance.md, whose table, chart and JSON are written anew")
	flag.Parse()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	seconds, rounds int
	quick, growth   bool
	syncs, search   bool
	retention       bool
	lists           bool
	only, dir, docs string
	most            int64
	outage, bloat   time.Duration
}

// plan is how much of everything is measured.
type plan struct {
	seconds    int // of load
	rounds     int
	backlog    int // events that are drained from their payloads
	contacts   int // events that are drained by reading Zoho
	deliveries int
	jobs       int // that do nothing
	isolation  time.Duration
}

func (o options) plan() plan {
	p := plan{seconds: 4, rounds: 3, backlog: 20_000, contacts: 4000, deliveries: 20_000, jobs: 40_000, isolation: 8 * time.Second}
	if o.quick {
		p = plan{seconds: 1, rounds: 1, backlog: 3000, contacts: 400, deliveries: 3000, jobs: 5000, isolation: time.Second}
	}
	if o.syncs || o.lists || o.search || o.outage > 0 || o.bloat > 0 {
		p.rounds = 1
	}
	if o.seconds > 0 {
		p.seconds = o.seconds
	}
	if o.rounds > 0 {
		p.rounds = o.rounds
	}
	return p
}

// measurement is a part of a round.
type measurement struct {
	name string
	run  func(context.Context) ([]row, error)
}

// measurements are those of a round, in their order; the baselines stand between them.
func (b *bench) measurements() ([]measurement, error) {
	switch {
	case b.o.syncs:
		return []measurement{{"syncs", b.syncs}}, nil
	case b.o.search:
		return []measurement{{"search", b.searches}}, nil
	case b.o.lists:
		return []measurement{{"lists", b.lists}}, nil
	case b.o.retention:
		return []measurement{{"retention", b.retention}}, nil
	case b.o.outage > 0:
		return []measurement{{"outage", b.outage}}, nil
	case b.o.bloat > 0:
		return []measurement{{"bloat", b.bloat}}, nil
	case b.o.growth:
		return []measurement{{"pgbench", b.pgbench}, {"growth", b.growth}}, nil
	}
	all := []measurement{
		{"pgbench", b.pgbench}, {"door", b.door}, {"copy", b.copies}, {"process", b.payloads}, {"zoho", b.fromZoho}, {"whole", b.whole},
		{"deliver", b.deliveries}, {"walk", b.walk}, {"fair", b.fair}, {"agents", b.agents}, {"river", b.river}, {"allocations", b.allocations},
	}
	switch {
	case b.o.only == "" && b.o.quick:
		return all, nil
	case b.o.only == "":
		// The machine's pace changes within a round, too.
		return slices.Insert(all, len(all)/2, all[0]), nil
	}
	var chosen []measurement
	for name := range strings.SplitSeq(b.o.only, ",") {
		i := slices.IndexFunc(all, func(m measurement) bool { return m.name == name })
		if i < 0 {
			names := make([]string, len(all))
			for i, m := range all {
				names[i] = m.name
			}
			return nil, fmt.Errorf("there is no part %q, but %s", name, strings.Join(names, ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

type bench struct {
	o      options
	plan   plan
	binary string
	tmp    string
	server *localpg.Server
	next   int64 // the number of the last request
	stocks []stock
	// oldStored is that the database is filled whose events are old.
	oldStored bool

	migrated  bool     // the template is there
	made      int      // databases, ever
	databases []string // that are there
}

func (b *bench) duration() time.Duration { return time.Duration(b.plan.seconds) * time.Second }

// run measures everything and writes what was found.
func run(ctx context.Context, o options, out io.Writer) (err error) {
	if err := o.checkDocs(); err != nil {
		return err
	}
	b := &bench{o: o, plan: o.plan()}
	measures, err := b.measurements()
	if err != nil {
		return err
	}
	if b.tmp, err = os.MkdirTemp(o.dir, "memrelay-bench-"); err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.tmp)) }()
	// Postgres runs as another user where this one is root.
	if err := os.Chmod(b.tmp, 0o755); err != nil {
		return fmt.Errorf("open the folder: %w", err)
	}
	if err := b.build(ctx); err != nil {
		return err
	}
	// One that serves a thousand agents has more connections; here a few programs share it.
	if b.server, err = localpg.Start(ctx, localpg.Options{Dir: filepath.Join(b.tmp, "pg"), OwnGroup: true, MaxConnections: 200}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.server.Stop(context.WithoutCancel(ctx))) }()
	if err := b.steady(ctx); err != nil {
		return err
	}
	m, err := b.machine(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s\n\n", m)
	rows, err := b.measure(ctx, measures)
	if err != nil {
		return err
	}
	all := summarise(rows)
	if err := print(out, all); err != nil {
		return err
	}
	return b.publish(m, all)
}

func (b *bench) build(ctx context.Context) error {
	if b.o.search { // which measures the database and the package that asks it
		return nil
	}
	b.binary = filepath.Join(b.tmp, "memrelay")
	if text, err := exec.CommandContext(ctx, "go", "build", "-o", b.binary, "./cmd/memrelay").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, text)
	}
	return nil
}

// measure goes through the rounds. What a round has left behind is written to disk
// before the next part begins: nobody pays for who was before.
func (b *bench) measure(ctx context.Context, measures []measurement) ([]row, error) {
	var rows []row
	began := time.Now()
	for round := range b.plan.rounds {
		for _, m := range measures {
			if err := execute(ctx, b.server.URL("postgres"), "CHECKPOINT"); err != nil {
				return nil, err
			}
			r, err := m.run(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", m.name, err)
			}
			rows = append(rows, r...)
			fmt.Fprintf(os.Stderr, "%4.0f s: round %d of %d, %s\n", time.Since(began).Seconds(), round+1, b.plan.rounds, m.name)
			if err := b.dropDatabases(ctx); err != nil {
				return nil, err
			}
		}
	}
	return rows, nil
}
