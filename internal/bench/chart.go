package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
)

const (
	chartWidth = 900
	barsFrom   = 430
	barsTo     = 800
	barHeight  = 16
	barStep    = 26
)

// chart draws the rates as bars, with a line from the least to the most of the rounds,
// and a mark where pgbench stands. Its colours follow whether the reader's screen is
// light or dark.
func chart(all []figure) []byte {
	rates := rateFigures(all)
	var most, base float64
	for _, f := range rates {
		most = max(most, f.Most)
		if f.What == baseline {
			base = f.Median
		}
	}
	at := func(v float64) float64 { return barsFrom + v/max(most, 1)*(barsTo-barsFrom) }
	height := barStep*len(rates) + 60
	var svg bytes.Buffer
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="rates of each part, a second">`+"\n", chartWidth, height, chartWidth, height)
	svg.WriteString(chartStyle)
	fmt.Fprintf(&svg, `<text class="title" x="10" y="20">A second: median, and from the least to the most of the rounds</text>`+"\n")
	for i, f := range rates {
		y := 40 + barStep*i
		fmt.Fprintf(&svg, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", barsFrom-8, y+12, escaped(shortened(f.What, 64)))
		fmt.Fprintf(&svg, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/>`+"\n", barClass(f), barsFrom, y, at(f.Median)-barsFrom, barHeight)
		fmt.Fprintf(&svg, `<line class="spread" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/>`+"\n", at(f.Least), y+barHeight/2, at(f.Most), y+barHeight/2)
		fmt.Fprintf(&svg, `<text x="%.1f" y="%d">%s</text>`+"\n", at(f.Most)+8, y+12, short(f.Median))
	}
	if base > 0 {
		fmt.Fprintf(&svg, `<line class="base" x1="%.1f" y1="34" x2="%.1f" y2="%d"/>`+"\n", at(base), at(base), height-20)
		fmt.Fprintf(&svg, `<text x="%.1f" y="%d" text-anchor="middle">pgbench</text>`+"\n", at(base), height-6)
	}
	svg.WriteString("</svg>\n")
	return svg.Bytes()
}

const chartStyle = `<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.ours { fill: #2f6fbb } .theirs { fill: #8c959f }
.spread { stroke: #24292f; stroke-width: 2 } .base { stroke: #8c959f; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #d0d7de }
  .ours { fill: #539bf5 } .theirs { fill: #768390 }
  .spread { stroke: #d0d7de } .base { stroke: #768390 }
}
</style>
`

func rateFigures(all []figure) []figure {
	var rates []figure
	for _, f := range all {
		if f.Unit == perSecond || f.Unit == deliveriesOfOne || f.Unit == jobsPerSecond {
			rates = append(rates, f)
		}
	}
	return rates
}

// barClass tells what others do from what the program does.
func barClass(f figure) string {
	for _, theirs := range []string{"pgbench", "COPY", "River"} {
		if strings.HasPrefix(f.What, theirs) {
			return "theirs"
		}
	}
	return "ours"
}

func shortened(text string, most int) string {
	letters := []rune(text)
	if len(letters) <= most {
		return text
	}
	return string(letters[:most-1]) + "…"
}

func escaped(text string) string {
	var out bytes.Buffer
	_ = xml.EscapeText(&out, []byte(text)) // a buffer takes everything
	return out.String()
}
