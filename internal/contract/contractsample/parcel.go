// Package contractsample has types for the tests of package contract, which reads
// their source. Nothing goes in, and nothing but those types comes out.
package contractsample

import "time"

// MaxName bounds a name, in bytes.
const MaxName = 40

// Lost is the state of what nobody finds.
const Lost = "lost"

// Parcel is what is on its way.
type Parcel struct {
	Number int64  `json:"number"` // the one on the label
	State  string `json:"state"`  // sent or Lost
	// Weight is in kilograms; Weight is nil when it was not put on scales.
	Weight float64    `json:"weight,omitempty"`
	At     *time.Time `json:"at"`
	// Receiver and Sender are at the ends; MaxName bytes at most.
	Receiver *Person `json:"receiver"`
	Sender   Person  `json:"sender"`

	Items  []string `json:"items"` // what is in it, by its name
	Secret string   `json:"-"`
	hidden int
}

// Hidden is how often it was looked at.
func (p Parcel) Hidden() int { return p.hidden }

// Person sends or receives.
type Person struct {
	Name string `json:"name"`
}
