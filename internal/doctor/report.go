package doctor

import (
	"fmt"
	"io"
	"strings"
)

// Report is what was found, and how it is to be taken in all.
type Report struct {
	Status   Status         `json:"status"` // the worst: ok, note, warning or failure
	Counts   map[Status]int `json:"counts"` // of findings; each status is there
	Findings []Finding      `json:"findings"`
}

// NewReport sums findings up.
func NewReport(found []Finding) Report {
	r := Report{Status: OK, Counts: map[Status]int{}, Findings: append([]Finding{}, found...)}
	for _, s := range []Status{Skipped, OK, Note, Warning, Failure} {
		r.Counts[s] = 0
	}
	for _, f := range found {
		r.Counts[f.Status]++
	}
	for _, s := range []Status{Note, Warning, Failure} {
		if r.Counts[s] > 0 {
			r.Status = s
		}
	}
	return r
}

// Print writes the report for people: under the name of each check a line for each
// finding, and what to do below it.
func (r Report) Print(w io.Writer) error {
	var text strings.Builder
	check := ""
	for _, f := range r.Findings {
		if f.Check != check {
			if check != "" {
				text.WriteString("\n")
			}
			check = f.Check
			fmt.Fprintln(&text, check)
		}
		fmt.Fprintf(&text, "  %s %s\n", sign(f.Status), f.Found)
		if f.Remedy != "" {
			fmt.Fprintf(&text, "      %s\n", f.Remedy)
		}
	}
	fmt.Fprintf(&text, "\n%s: %s, %s, %s, %s, %d skipped\n", r.verdict(), count(r.Counts[Failure], "failure"), count(r.Counts[Warning], "warning"),
		count(r.Counts[Note], "note"), fmt.Sprintf("%d ok", r.Counts[OK]), r.Counts[Skipped])
	_, err := io.WriteString(w, text.String())
	return err
}

func (r Report) verdict() string {
	switch r.Status {
	case Failure:
		return "Something is broken"
	case Warning:
		return "It works, and something should be seen to"
	}
	return "All is well"
}

func sign(s Status) string {
	switch s {
	case OK:
		return "✓"
	case Note:
		return "i"
	case Warning:
		return "!"
	case Failure:
		return "✗"
	}
	return "-"
}

func count(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}
