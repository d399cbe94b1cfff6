package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// wellFormed fails unless svg is XML from its beginning to its end, and counts elements.
func wellFormed(t *testing.T, svg []byte) map[string]int {
	t.Helper()
	elements := map[string]int{}
	d := xml.NewDecoder(bytes.NewReader(svg))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return elements
		}
		if err != nil {
			t.Fatalf("the chart is no XML: %v\n%s", err, svg)
		}
		if e, ok := token.(xml.StartElement); ok {
			elements[e.Name.Local]++
		}
	}
}

func TestTheChartHasABarForEachRate(t *testing.T) {
	t.Parallel()
	svg := chart(summarise([]row{
		{baseline, perSecond, 5000}, {"door <at> 128 & more", perSecond, 10000}, {"its p99", "ms", 20}, {toOneEndpoint, deliveriesOfOne, 2500},
		{baseline, perSecond, 5000}, {"door <at> 128 & more", perSecond, 8000},
	}))
	elements := wellFormed(t, svg)
	if elements["rect"] != 3 {
		t.Errorf("there are %d bars, want 3", elements["rect"])
	}
	for _, want := range []string{
		`door &lt;at&gt; 128 &amp; more`,
		`<rect class="theirs" x="430" y="40" width="185.0"`, // half of the most that was seen
		`<rect class="ours" x="430" y="66" width="333.0"`,   // the median of 8,000 and 10,000
		`x1="726.0" y1="74" x2="800.0"`,                     // and from the one to the other
		`prefers-color-scheme: dark`,
	} {
		if !strings.Contains(string(svg), want) {
			t.Errorf("the chart lacks %s:\n%s", want, svg)
		}
	}
}

func TestAChartOfNothingIsOne(t *testing.T) {
	t.Parallel()
	wellFormed(t, chart(nil))
	wellFormed(t, lines(nil, nil))
}

func TestLinesGoFromNothingToTheMost(t *testing.T) {
	t.Parallel()
	if got, want := points([]float64{0, 5, 10}, 10, 20), "10.0,110.0 150.0,65.0 290.0,20.0"; got != want {
		t.Errorf("points = %s, want %s", got, want)
	}
	svg := lines([]string{"river_job"}, map[string][]tableSize{"river_job": {{heap: 1}, {heap: 2, index: 1, dead: 5}}})
	if n := wellFormed(t, svg)["polyline"]; n != 3 {
		t.Errorf("there are %d lines, want 3", n)
	}
}

func TestTheTableGoesWhereThePageSays(t *testing.T) {
	t.Parallel()
	page := "before\n<!-- performance -->\nold\n<!-- /performance -->\nafter\n"
	got, err := between([]byte(page), "performance", []byte("new\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("before\n<!-- performance -->\nnew\n<!-- /performance -->\nafter\n", string(got)); diff != "" {
		t.Errorf("the page (-want +got):\n%s", diff)
	}
	if _, err := between([]byte(page), "performance-growth", nil); !errors.Is(err, errNoPlace) {
		t.Errorf("the error is %v, want %v", err, errNoPlace)
	}
}
