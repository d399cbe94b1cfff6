package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"

	"github.com/memrelay/memrelay/internal/app"
	"github.com/memrelay/memrelay/internal/connection"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/seal"
)

const rightKey = "set MEMRELAY_KEY to what it was when they were sealed, beside the new one and with a comma; what is lost has to be set anew"

// lookAtKeys opens everything that is sealed, and forgets it at once.
func lookAtKeys(ctx context.Context, p *patient, n *notes) {
	box, err := app.NewBox(p.cfg)
	if err != nil {
		n.unseen("what is sealed", err)
		return
	}
	opened, closed, err := p.openAll(ctx, box)
	if err != nil {
		n.unseen("what is sealed", err)
		return
	}
	if len(closed) > 0 {
		n.fail(rightKey, "MEMRELAY_KEY does not open the secrets of %s", strings.Join(closed, ", "))
	}
	if len(opened) > 0 {
		n.ok("MEMRELAY_KEY opens the secrets of %s", strings.Join(opened, ", "))
	}
	if len(opened)+len(closed) == 0 {
		n.ok("nothing is sealed")
	}
	p.tellOldKeys(ctx, n, len(opened))
}

// openAll names what is sealed, by whether box opens it.
func (p *patient) openAll(ctx context.Context, box *seal.Box) (opened, closed []string, err error) {
	_, err = connection.Stored(ctx, p.q, box)
	switch {
	case errors.Is(err, connection.ErrNotConnected):
	case errors.Is(err, seal.ErrNoKey), errors.Is(err, seal.ErrWrongKey):
		closed = append(closed, "Zoho's authorisation")
	case err != nil:
		return nil, nil, err
	default:
		opened = append(opened, "Zoho's authorisation")
	}
	rows, err := p.q.ListEndpoints(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range rows {
		if e.Sealed == nil {
			continue
		}
		if _, err := endpoint.Open(box, e.ID, e.Sealed); err != nil {
			closed = append(closed, "endpoint "+e.Name)
			continue
		}
		opened = append(opened, "endpoint "+e.Name)
	}
	return opened, closed, nil
}

// tellOldKeys tells which of several keys may go.
func (p *patient) tellOldKeys(ctx context.Context, n *notes, opened int) {
	if len(p.cfg.Keys) < 2 {
		return
	}
	first, err := seal.New(p.cfg.Keys[:1], rand.Reader)
	if err != nil {
		n.unseen("the first key", err)
		return
	}
	by, _, err := p.openAll(ctx, first)
	switch {
	case err != nil:
		n.unseen("what the first key opens", err)
	case len(by) < opened:
		n.note("rotate or set those secrets anew before an older key is taken away", "%d of %d are still sealed with an older key of MEMRELAY_KEY", opened-len(by), opened)
	default:
		n.note("take the older keys out of MEMRELAY_KEY, on all nodes", "the first key of MEMRELAY_KEY opens everything: the others are not needed")
	}
}
