package doctor

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/memrelay/memrelay/internal/app"
)

const (
	// warnSkew and failSkew are from where on a clock is wrong. Signatures are good
	// for five minutes, and receivers' clocks are wrong, too.
	warnSkew = 2 * time.Second
	failSkew = 30 * time.Second
)

const setClock = "let NTP set the clock: `timedatectl set-ntp true`, or the like of your system"

func lookAtClock(ctx context.Context, p *patient, n *notes) {
	if p.pool == nil {
		n.skip("%s", p.lacks(database))
	} else {
		p.compareWithDatabase(ctx, n)
	}
	if p.settingsErr == nil && p.cfg.Zoho.Connected() {
		p.compareWithZoho(ctx, n)
	}
}

func (p *patient) compareWithDatabase(ctx context.Context, n *notes) {
	// The first question may wait for a connection, which says nothing of the clock.
	if _, err := p.q.ServerClock(ctx); err != nil {
		n.unseen("the database's clock", err)
		return
	}
	asked := p.o.Now()
	theirs, err := p.q.ServerClock(ctx)
	if err != nil {
		n.unseen("the database's clock", err)
		return
	}
	tellSkew(n, "the database's", skew(theirs, theirs, asked, p.o.Now()))
}

// compareWithZoho asks for a page that is for everybody, and looks only at when it says that it was answered.
func (p *patient) compareWithZoho(ctx context.Context, n *notes) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, accountsURL(ctx, app.ZohoConfig(p.cfg)), nil)
	if err != nil {
		n.unseen("Zoho's clock", errors.New("its address is no URL"))
		return
	}
	asked := p.o.Now()
	res, err := p.o.Transport.RoundTrip(req)
	if err != nil {
		n.unseen("Zoho's clock", err)
		return
	}
	_ = res.Body.Close()
	theirs, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		n.note("", "Zoho did not say what time it is")
		return
	}
	// A Date is cut to the second.
	tellSkew(n, "Zoho's", skew(theirs, theirs.Add(time.Second), asked, p.o.Now()))
}

// skew is how far this machine is ahead of a clock that showed something from least
// to most at some time between asked and answered; 0 when it may be right.
func skew(least, most, asked, answered time.Time) time.Duration {
	switch {
	case asked.After(most):
		return asked.Sub(most)
	case answered.Before(least):
		return answered.Sub(least)
	}
	return 0
}

func tellSkew(n *notes, whose string, d time.Duration) {
	where := "ahead of"
	if d < 0 {
		where = "behind"
	}
	off := d.Abs()
	switch {
	case off > failSkew:
		n.fail(setClock, "this machine's clock is %s %s %s: signatures are good for five minutes", off.Round(time.Second), where, whose)
	case off > warnSkew:
		n.warn(setClock, "this machine's clock is %s %s %s", off.Round(100*time.Millisecond), where, whose)
	default:
		n.ok("this machine's clock agrees with %s", whose)
	}
}
