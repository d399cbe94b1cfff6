package endpoint

import (
	"encoding/json"
	"errors"
	"math"
	"time"
)

// Duration is a time.Duration that people write: "30s", "5m", or a number of seconds.
// It is shown as Go does: "30s", "5m0s".
type Duration time.Duration

// String returns it as Go does.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText returns what String does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

var errDuration = errors.New(`want a duration as "30s" or "5m", or a number of seconds`)

// UnmarshalText reads a Go duration.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return errDuration
	}
	*d = Duration(parsed)
	return nil
}

// UnmarshalJSON reads a text, or a number of seconds.
func (d *Duration) UnmarshalJSON(raw []byte) error {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return d.UnmarshalText([]byte(text))
	}
	var seconds float64
	if json.Unmarshal(raw, &seconds) != nil || math.Abs(seconds) > math.MaxInt64/float64(time.Second)/2 {
		return errDuration
	}
	*d = Duration(math.Round(seconds * float64(time.Second)))
	return nil
}
