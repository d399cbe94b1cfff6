package channel

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/memrelay/memrelay/internal/zoho"
)

// fakeZoho is Zoho's notification API in memory, as far as it is documented: it
// forgets what has expired without a word, and enabling a channel that is there
// replaces it.
type fakeZoho struct {
	t *testing.T

	mu       sync.Mutex
	channels map[string]zoho.Channel
	tokens   map[string]bool // that were ever given
	calls    []string        // "enable Contacts"
	skipped  time.Duration   // how far the clock is ahead
	most     time.Duration   // the longest life, beyond which it is an hour

	// before, unless nil, is called before a call does anything; its error is the answer.
	before func(op string, ch zoho.Channel) error
	// after, unless nil, is called after a call was done; its error is the answer.
	after func(op string, ch zoho.Channel) error
}

func newFakeZoho(t *testing.T) *fakeZoho {
	return &fakeZoho{t: t, channels: map[string]zoho.Channel{}, tokens: map[string]bool{}, most: zoho.MaxChannelLife}
}

func (f *fakeZoho) now() time.Time { return time.Now().Add(f.skipped) }

// write does one of the calls that give a channel.
func (f *fakeZoho) write(ctx context.Context, op string, ch zoho.Channel, do func(now time.Time) error) (zoho.Channel, error) {
	name := op + " " + moduleOf(ch)
	f.mu.Lock()
	f.calls = append(f.calls, name)
	before, after := f.before, f.after
	f.mu.Unlock()
	if before != nil {
		if err := before(name, ch); err != nil {
			return zoho.Channel{}, err
		}
	}
	f.mu.Lock()
	err := f.refuse(op, ch)
	if err == nil {
		err = do(f.now())
	}
	said := f.channels[ch.ID]
	f.mu.Unlock()
	if err != nil {
		return zoho.Channel{}, err
	}
	if after != nil {
		if err := after(name, ch); err != nil {
			return zoho.Channel{}, err
		}
	}
	if err := ctx.Err(); err != nil {
		return zoho.Channel{}, &zoho.Error{Kind: zoho.KindUnavailable, Op: op, Err: err}
	}
	said.Token, said.Expires = "", said.Expires.Add(-f.skipped)
	return said, nil
}

// refuse checks what every channel must be.
func (f *fakeZoho) refuse(op string, ch zoho.Channel) error {
	invalid := func(what string) error {
		return &zoho.Error{Kind: zoho.KindInvalid, Op: op + " channel", Status: 400, Code: "INVALID_DATA", Message: what}
	}
	switch {
	case len(ch.Token) == 0 || len(ch.Token) > zoho.MaxToken:
		return invalid("token")
	case len(ch.ID) == 0 || len(ch.ID) > 15 || strings.Trim(ch.ID, "0123456789") != "" || ch.ID[0] == '0':
		return invalid("channel_id")
	case len(ch.NotifyURL) == 0 || len(ch.NotifyURL) > 255 || strings.Contains(ch.NotifyURL, "unreachable"):
		return invalid("notify_url")
	case ch.Expires.Nanosecond() != 0:
		return invalid("channel_expiry")
	case f.tokens[ch.Token]:
		f.t.Errorf("%s of channel %s carries a token that was used before", op, ch.ID)
	}
	f.tokens[ch.Token] = true
	for _, e := range ch.Events {
		module, event, _ := strings.Cut(e, ".")
		if module == "Notes" || module == "Nonsense" || !slices.Contains(operations, event) {
			return invalid("events")
		}
	}
	return nil
}

func (f *fakeZoho) put(now time.Time, ch zoho.Channel) error {
	ch.Expires, ch.Module = f.expiry(now, ch.Expires), moduleOf(ch)
	f.channels[ch.ID] = ch
	return nil
}

func (f *fakeZoho) expiry(now, asked time.Time) time.Time {
	asked = asked.Add(f.skipped)
	if asked.Sub(now) > f.most {
		return now.Add(time.Hour).Truncate(time.Second)
	}
	return asked
}

func (f *fakeZoho) known(now time.Time, ch zoho.Channel) error {
	if c, ok := f.channels[ch.ID]; ok && c.Expires.After(now) {
		return nil
	}
	return &zoho.Error{Kind: zoho.KindInvalid, Op: "renew channel", Status: 400, Code: zoho.NotSubscribed}
}

func (f *fakeZoho) EnableChannel(ctx context.Context, ch zoho.Channel) (zoho.Channel, error) {
	return f.write(ctx, "enable", ch, func(now time.Time) error { return f.put(now, ch) })
}

func (f *fakeZoho) RenewChannel(ctx context.Context, ch zoho.Channel) (zoho.Channel, error) {
	return f.write(ctx, "renew", ch, func(now time.Time) error {
		if err := f.known(now, ch); err != nil {
			return err
		}
		had := f.channels[ch.ID]
		had.Token, had.Expires = ch.Token, f.expiry(now, ch.Expires)
		f.channels[ch.ID] = had
		return nil
	})
}

func (f *fakeZoho) ReplaceChannel(ctx context.Context, ch zoho.Channel) (zoho.Channel, error) {
	return f.write(ctx, "replace", ch, func(now time.Time) error {
		if err := f.known(now, ch); err != nil {
			return err
		}
		return f.put(now, ch)
	})
}

func (f *fakeZoho) Channels(context.Context) ([]zoho.Channel, error) {
	if err := f.told("list", zoho.Channel{}); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []zoho.Channel
	for _, ch := range f.channels {
		if ch.Expires.After(f.now()) {
			ch.Expires = ch.Expires.Add(-f.skipped)
			list = append(list, ch)
		}
	}
	return list, nil
}

func (f *fakeZoho) StopEvents(_ context.Context, id string, events []string) error {
	ch := zoho.Channel{ID: id, Events: events}
	if err := f.told("stop", ch); err != nil {
		return err
	}
	removed := f.remove(id)
	f.mu.Lock()
	after := f.after
	f.mu.Unlock()
	if after != nil {
		if err := after("stop "+moduleOf(ch), ch); err != nil {
			return err
		}
	}
	return removed
}

func (f *fakeZoho) DisableChannels(_ context.Context, ids []string) error {
	for _, id := range ids {
		f.mu.Lock()
		ch := f.channels[id]
		f.mu.Unlock()
		if err := f.told("disable", ch); err != nil {
			return err
		}
		if err := f.remove(id); err != nil {
			return err
		}
	}
	return nil
}

func (f *fakeZoho) told(op string, ch zoho.Channel) error {
	name := strings.TrimSpace(op + " " + moduleOf(ch))
	f.mu.Lock()
	f.calls = append(f.calls, name)
	before := f.before
	f.mu.Unlock()
	if before == nil {
		return nil
	}
	return before(name, ch)
}

func (f *fakeZoho) remove(id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.channels[id]; !ok {
		return &zoho.Error{Kind: zoho.KindInvalid, Op: "stop channel", Status: 400, Code: zoho.NotSubscribed}
	}
	delete(f.channels, id)
	return nil
}

func moduleOf(ch zoho.Channel) string {
	if len(ch.Events) == 0 {
		return ""
	}
	module, _, _ := strings.Cut(ch.Events[0], ".")
	return module
}

// live returns the channels that would notify now, by module; two of the same
// module fail the test.
func (f *fakeZoho) live() map[string]zoho.Channel {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	live := map[string]zoho.Channel{}
	for _, ch := range f.channels {
		if !ch.Expires.After(f.now()) {
			continue
		}
		if other, ok := live[ch.Module]; ok {
			f.t.Errorf("%s has two channels: %s and %s", ch.Module, ch.ID, other.ID)
		}
		live[ch.Module] = ch
	}
	return live
}

// took returns the calls since it was last asked, sorted.
func (f *fakeZoho) took() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	slices.Sort(calls)
	return calls
}

// hooks sets what happens before and after each call.
func (f *fakeZoho) hooks(before, after func(op string, ch zoho.Channel) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.after = before, after
}

// lose forgets a channel, as Zoho does.
func (f *fakeZoho) lose(module string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, ch := range f.channels {
		if ch.Module == module {
			delete(f.channels, id)
		}
	}
}

func (f *fakeZoho) add(ch zoho.Channel) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.channels[ch.ID] = ch
}

// answering makes a hook that fails every call with err.
func answering(err error) func(string, zoho.Channel) error {
	return func(string, zoho.Channel) error { return err }
}

var errTimeout = &zoho.Error{Kind: zoho.KindUnavailable, Op: "enable channel", Err: fmt.Errorf("timeout")}
