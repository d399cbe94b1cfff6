package outbound

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/riverqueue/river/rivertype"
)

// Neither the job nor any row says why it waits: only the log does. A stop is no
// fault, and a job that is done says nothing.
func TestAJobThatWaitsForTheWorldSaysWhy(t *testing.T) {
	t.Parallel()
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		err  error
		says string
	}{
		"the world's failure": {t.Context(), errors.New("no connection"), `endpoint_id=7 error="no connection"`},
		"a stop":              {stopped, errors.New("no connection"), ""},
		"done":                {t.Context(), nil, ""},
	} {
		var said bytes.Buffer
		err := endOf(c.ctx, slog.New(slog.NewTextHandler(&said, nil)), c.err, "endpoint_id", 7)
		var snooze *rivertype.JobSnoozeError
		if got := errors.As(err, &snooze); got != (c.says != "") {
			t.Errorf("%s: the job returned %v", name, err)
		}
		if line := said.String(); !strings.Contains(line, c.says) || (c.says == "") != (line == "") {
			t.Errorf("%s: the log says %q", name, line)
		}
	}
}
