package admin

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/memrelay/memrelay/internal/access"
)

// ErrChannelState is returned for a channel that is in no state to do that with.
var ErrChannelState = errors.New("is not looked after: resume it, or register it first")

// Running is what operators see and change of the running program.
type Running struct {
	Channels *Channels
	Syncs    Syncs
	Queues   *Queues
	Stats    *Stats
	Rejected *Rejected
	Audit    *AuditLog
	Tokens   *access.Tokens
	Settings []Setting
}

// Setting is one setting as it is in force on the node that answers, without what is
// secret: of that, whether it is set, and, when there is a MEMRELAY_KEY, a fingerprint to
// compare nodes by.
type Setting struct {
	Name        string `json:"name"`
	Value       string `json:"value"` // "" of a secret
	Default     string `json:"default"`
	Source      string `json:"source"` // environment or default
	Set         bool   `json:"set"`
	Secret      bool   `json:"secret"`
	Fingerprint string `json:"fingerprint,omitempty"`
}

// filterMark tells the cursors of one list and filter from those of another. filter has
// neither its cursor nor its limit.
func filterMark(filter any) []byte {
	text, _ := json.Marshal(filter) // strings and times: it always can be
	sum := sha256.Sum256(fmt.Appendf(nil, "%T %s", filter, text))
	return sum[:markLength]
}
