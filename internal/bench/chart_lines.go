package main

import (
	"bytes"
	"fmt"
	"slices"
)

const (
	panelWidth, panelHeight = 280, 90
	panelsInRow             = 3
	panelStep               = 130
)

// lines draws a panel for each table: its size, that of its indexes, and its dead rows,
// each from nothing to its own most, over the time of the run.
func lines(names []string, seen map[string][]tableSize) []byte {
	names = slices.Sorted(slices.Values(names))
	height := 50 + panelStep*((len(names)+panelsInRow-1)/panelsInRow)
	var svg bytes.Buffer
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="tables over time">`+"\n", chartWidth, height, chartWidth, height)
	svg.WriteString(chartStyle)
	svg.WriteString(`<style>polyline { fill: none; stroke-width: 1.5 } .heap { stroke: #2f6fbb } .index { stroke: #bf8700 } .dead { stroke: #cf222e }</style>` + "\n")
	svg.WriteString(`<text class="title" x="10" y="20">Blue: table, MB; yellow: its indexes, MB; red: dead rows. Each up to the number beside its name</text>` + "\n")
	for i, name := range names {
		x, y := 10+(i%panelsInRow)*(panelWidth+15), 50+i/panelsInRow*panelStep
		all := seen[name]
		heap, index, dead := column(all, func(s tableSize) float64 { return s.heap }), column(all, func(s tableSize) float64 { return s.index }), column(all, func(s tableSize) float64 { return s.dead })
		fmt.Fprintf(&svg, `<text x="%d" y="%d">%s: %s, %s, %s</text>`+"\n", x, y, escaped(shortened(name, 24)),
			short(slices.Max(heap)), short(slices.Max(index)), short(slices.Max(dead)))
		for _, l := range []struct {
			class  string
			values []float64
		}{{"heap", heap}, {"index", index}, {"dead", dead}} {
			fmt.Fprintf(&svg, `<polyline class="%s" points="%s"/>`+"\n", l.class, points(l.values, float64(x), float64(y+8)))
		}
	}
	svg.WriteString("</svg>\n")
	return svg.Bytes()
}

func column(all []tableSize, of func(tableSize) float64) []float64 {
	values := make([]float64, len(all))
	for i, s := range all {
		values[i] = of(s)
	}
	return values
}

// points are where a line goes in a panel, its most at the top.
func points(values []float64, x, y float64) string {
	most := max(slices.Max(values), 1e-9)
	var out bytes.Buffer
	for i, v := range values {
		fmt.Fprintf(&out, "%.1f,%.1f ", x+float64(i)/float64(max(len(values)-1, 1))*panelWidth, y+panelHeight*(1-v/most))
	}
	return string(bytes.TrimRight(out.Bytes(), " "))
}
