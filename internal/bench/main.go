// Command bench measures the door beside Postgres itself: the same rows go in
// through HTTP and through pgbench, one transaction per event, in one run on one
// private server with fsync on. Out comes a table.
//
//	go run ./internal/bench -seconds 5 -rounds 3
//	go run ./internal/bench -syncs -rounds 1
//	go run ./internal/bench -search -rounds 1
//	go run ./internal/bench -deliver -rounds 1
//	go run ./internal/bench -outage 2m -rounds 1
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/memrelay/memrelay/internal/localpg"
	"github.com/memrelay/memrelay/internal/postgres"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var o options
	flag.IntVar(&o.seconds, "seconds", 5, "of load in each measurement")
	flag.IntVar(&o.rounds, "rounds", 3, "how often each measurement is repeated, interleaved")
	flag.IntVar(&o.connections, "connections", 128, "of the load")
	flag.BoolVar(&o.syncs, "syncs", false, "measure syncs of Zoho instead")
	flag.BoolVar(&o.search, "search", false, "measure searches among a million memories instead; takes some minutes and 3 GB")
	flag.BoolVar(&o.deliver, "deliver", false, "measure what goes out instead")
	flag.DurationVar(&o.outage, "outage", 0, "measure what follows when a receiver is away for so long instead")
	flag.StringVar(&o.dir, "dir", "", "where the server's data lies; a disk, not memory (default: a folder for temporary files)")
	flag.Parse()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	seconds, rounds, connections int
	dir                          string
	syncs, search, deliver       bool
	outage                       time.Duration
}

// run measures everything and prints the table.
func run(ctx context.Context, o options, out io.Writer) error {
	tmp, err := os.MkdirTemp(o.dir, "memrelay-bench-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	// Postgres runs as another user where this one is root.
	if err := os.Chmod(tmp, 0o755); err != nil {
		return fmt.Errorf("open the folder: %w", err)
	}
	binary := filepath.Join(tmp, "memrelay")
	if !o.search { // which measures the database and the package that asks it
		if text, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, "./cmd/memrelay").CombinedOutput(); err != nil {
			return fmt.Errorf("build: %w\n%s", err, text)
		}
	}
	server, err := localpg.Start(ctx, localpg.Options{Dir: filepath.Join(tmp, "pg"), OwnGroup: true})
	if err != nil {
		return err
	}
	defer func() { _ = server.Stop(context.WithoutCancel(ctx)) }()

	b := &bench{o: o, binary: binary, tmp: tmp, server: server}
	measures := []func(context.Context) ([]row, error){b.pgbench, b.door, b.whole}
	if o.syncs {
		measures = []func(context.Context) ([]row, error){b.syncs}
	}
	if o.search {
		measures = []func(context.Context) ([]row, error){b.searches}
	}
	if o.deliver {
		measures = []func(context.Context) ([]row, error){b.deliveries}
	}
	if o.outage > 0 {
		measures = []func(context.Context) ([]row, error){b.outage}
	}
	var rows []row
	for round := range o.rounds {
		for _, measure := range measures {
			r, err := measure(ctx)
			if err != nil {
				return err
			}
			rows = append(rows, r...)
		}
		fmt.Fprintf(os.Stderr, "round %d of %d done\n", round+1, o.rounds)
	}
	return print(out, rows)
}

type bench struct {
	o      options
	binary string
	tmp    string
	server *localpg.Server
	made   int
}

// row is one figure of one round.
type row struct {
	what  string
	unit  string
	value float64
}

// database makes an empty, migrated database.
func (b *bench) database(ctx context.Context) (string, error) {
	b.made++
	name := fmt.Sprintf("bench_%d", b.made)
	if err := execute(ctx, b.server.URL("postgres"), "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	url := b.server.URL(name)
	return url, postgres.Migrate(ctx, url, slog.New(slog.DiscardHandler))
}

// print shows each figure's median over the rounds, and its spread.
func print(out io.Writer, rows []row) error {
	values := map[string][]float64{}
	var order []row
	for _, r := range rows {
		if _, ok := values[r.what]; !ok {
			order = append(order, r)
		}
		values[r.what] = append(values[r.what], r.value)
	}
	base := median(values[baseline])
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "| measurement\t| unit\t| median\t| from\t| to\t| of pgbench\t|")
	fmt.Fprintln(w, "| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t|")
	for _, r := range order {
		v := values[r.what]
		ratio := ""
		if r.unit == perSecond && r.what != baseline {
			ratio = fmt.Sprintf("%.2f", median(v)/base)
		}
		fmt.Fprintf(w, "| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t|\n", r.what, r.unit, figure(median(v)), figure(slices.Min(v)), figure(slices.Max(v)), ratio)
	}
	return w.Flush()
}

func figure(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return strings.TrimRight(strings.TrimRight(fmt.Sprintf("%.2f", v), "0"), ".")
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(v))
	return sorted[len(sorted)/2]
}

func (b *bench) duration() time.Duration { return time.Duration(b.o.seconds) * time.Second }
