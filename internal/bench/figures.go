package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Units of what is set beside pgbench.
const (
	perSecond       = "events/s"
	deliveriesOfOne = "deliveries/s"
	jobsPerSecond   = "jobs/s"
)

// row is one figure of one round.
type row struct {
	what  string
	unit  string
	value float64
}

// figure is what all rounds found of one thing.
type figure struct {
	What   string    `json:"what"`
	Unit   string    `json:"unit"`
	Values []float64 `json:"values"` // by round
	Median float64   `json:"median"`
	Least  float64   `json:"least"`
	Most   float64   `json:"most"`
	// Ratio is to what pgbench did in the same run; 0: that would say nothing.
	Ratio float64 `json:"of_pgbench,omitempty"`
	Goal  string  `json:"goal,omitempty"`
	Met   *bool   `json:"met,omitempty"` // nil: there is no goal
}

// summarise puts the rounds together, in the order in which things were first measured.
func summarise(rows []row) []figure {
	var all []figure
	place := map[string]int{}
	for _, r := range rows {
		i, ok := place[r.what]
		if !ok {
			i = len(all)
			place[r.what] = i
			all = append(all, figure{What: r.what, Unit: r.unit})
		}
		all[i].Values = append(all[i].Values, r.value)
	}
	for i := range all {
		f := &all[i]
		f.Median, f.Least, f.Most = median(f.Values), slices.Min(f.Values), slices.Max(f.Values)
	}
	rated(all)
	return all
}

// rated sets each figure beside pgbench, and beside its goal.
func rated(all []figure) {
	medians := map[string]float64{}
	for _, f := range all {
		medians[f.What] = f.Median
	}
	for i := range all {
		f := &all[i]
		rate := f.Unit == perSecond || f.Unit == deliveriesOfOne || f.Unit == jobsPerSecond
		if base := medians[baseline]; rate && base > 0 && f.What != baseline {
			f.Ratio = f.Median / base
		}
		g, ok := goals()[f.What]
		if !ok {
			continue
		}
		limit := g.limit
		if g.of != "" {
			if medians[g.of] == 0 {
				continue // measured without what it is compared with
			}
			limit *= medians[g.of]
		}
		met := f.Median <= limit
		if g.atLeast {
			met = f.Median >= limit
		}
		f.Goal, f.Met = g.says, &met
	}
}

// median is the middle one, of an even number the mean of the middle two.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(v))
	middle := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[middle-1] + sorted[middle]) / 2
	}
	return sorted[middle]
}

// percentile is the value that so great a share of sorted is not above: the nearest
// rank, so that it is one that was measured.
func percentile(sorted []float64, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(share * float64(len(sorted)))
	if float64(rank) < share*float64(len(sorted)) {
		rank++
	}
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// print writes the table.
func print(out io.Writer, all []figure) error {
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "| measurement\t| unit\t| median\t| from\t| to\t| of pgbench\t| goal\t| met\t|")
	fmt.Fprintln(w, "| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t|")
	for _, f := range all {
		ratio := ""
		if f.Ratio > 0 {
			ratio = fmt.Sprintf("%.2f", f.Ratio)
		}
		fmt.Fprintf(w, "| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t|\n", f.What, f.Unit, short(f.Median), short(f.Least), short(f.Most), ratio, f.Goal, f.met())
	}
	return w.Flush()
}

func (f figure) met() string {
	switch {
	case f.Met == nil:
		return ""
	case *f.Met:
		return "yes"
	}
	return "**no**"
}

func short(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return strings.TrimRight(strings.TrimRight(fmt.Sprintf("%.2f", v), "0"), ".")
}
