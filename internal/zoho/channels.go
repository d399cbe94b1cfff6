package zoho

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	watchPath = "/actions/watch"
	// watchMax is how many channels one request may name.
	watchMax = 50
	// watchLife is what Zoho gives a channel when it does not like what was asked for.
	watchLife = time.Hour
)

// watch is a channel as Zoho writes it. What is left out of a PATCH stays.
type watch struct {
	ChannelID     string   `json:"channel_id"`
	Events        []string `json:"events,omitempty"`
	NotifyURL     string   `json:"notify_url,omitempty"`
	Token         string   `json:"token,omitempty"`
	Expiry        string   `json:"channel_expiry,omitempty"`
	AffectedField *bool    `json:"return_affected_field_values,omitempty"`
	Related       *bool    `json:"notify_on_related_action,omitempty"`
	DeleteEvents  bool     `json:"_delete_events,omitempty"`
}

// watchOf is ch with what it says, and no more.
func watchOf(ch Channel) watch {
	w := watch{ChannelID: ch.ID, Events: ch.Events, NotifyURL: ch.NotifyURL, Token: ch.Token}
	if !ch.Expires.IsZero() {
		w.Expiry = zohoTime(ch.Expires)
	}
	return w
}

// whole says also how a channel notifies: with the values of changed fields, and
// not of what happens to related records, which have their own events.
func whole(ch Channel) watch {
	w := watchOf(ch)
	yes, no := true, false
	w.AffectedField, w.Related = &yes, &no
	return w
}

// EnableChannel makes a channel. It returns ch with the expiry that Zoho set,
// the earliest one of its modules: less than was asked for, if that was more than
// MaxChannelLife or Zoho thought so.
func (c *Client) EnableChannel(ctx context.Context, ch Channel) (Channel, error) {
	return c.setChannel(ctx, "enable channel "+ch.ID, http.MethodPost, ch, whole(ch))
}

// RenewChannel changes a channel's token and expiry, and its URL when ch has one;
// events that ch names are added. The answer is as that of EnableChannel. An Error
// whose Code is NotSubscribed says that Zoho has forgotten the channel, as it does
// with expired ones: EnableChannel makes it anew.
func (c *Client) RenewChannel(ctx context.Context, ch Channel) (Channel, error) {
	return c.setChannel(ctx, "renew channel "+ch.ID, http.MethodPatch, ch, watchOf(ch))
}

// ReplaceChannel makes a channel what ch says: what ch does not name is gone. The
// answer is as that of EnableChannel.
func (c *Client) ReplaceChannel(ctx context.Context, ch Channel) (Channel, error) {
	return c.setChannel(ctx, "replace channel "+ch.ID, http.MethodPut, ch, whole(ch))
}

// watches is the body of a request about channels.
type watches struct {
	Watch []watch `json:"watch"`
}

func (c *Client) setChannel(ctx context.Context, op, method string, ch Channel, w watch) (Channel, error) {
	asked := c.now()
	s, err := c.do(ctx, call{op: op, method: method, path: watchPath, body: watches{[]watch{w}}, secret: ch.Token})
	if err != nil {
		return Channel{}, err
	}
	if s == nil || len(s.watched()) == 0 {
		return Channel{}, misshapen(op, errors.New("nothing is said of the channel"))
	}
	set := ch
	set.Expires, set.Module = s.expiry()
	if set.Expires.IsZero() {
		// Not said: what Zoho is sure to give, and not more than was asked for.
		set.Expires = asked.Add(watchLife)
		if !ch.Expires.IsZero() && ch.Expires.Before(set.Expires) {
			set.Expires = ch.Expires
		}
	}
	return set, nil
}

// expiry is the earliest expiry in the answer, zero when it has none, and the
// module when there is one only.
func (s *said) expiry() (earliest time.Time, module string) {
	var modules []string
	for _, w := range s.watched() {
		var details struct {
			Events []struct {
				Expiry text `json:"channel_expiry"`
				Module text `json:"resource_name"`
			} `json:"events"`
		}
		if json.Unmarshal(w.Details, &details) != nil {
			continue
		}
		for _, e := range details.Events {
			if t, err := parseTime(e.Expiry.String()); err == nil && (earliest.IsZero() || t.Before(earliest)) {
				earliest = t
			}
			modules = append(modules, e.Module.String())
		}
	}
	if len(modules) == 1 {
		module = modules[0]
	}
	return earliest, module
}

// Channels are all channels that Zoho knows of, one for each module: those of
// several modules come several times, with the same ID. Events are as Zoho writes
// them, with .create, .edit and .delete where .all was asked for.
func (c *Client) Channels(ctx context.Context) ([]Channel, error) {
	const op = "list channels"
	var channels []Channel
	for page := 1; ; page++ {
		s, err := c.do(ctx, call{
			op: op, method: http.MethodGet, read: true, path: watchPath,
			query: url.Values{"page": {strconv.Itoa(page)}, "per_page": {strconv.Itoa(MaxPage)}},
		})
		if err != nil {
			return nil, err
		}
		if s == nil {
			return channels, nil
		}
		some, err := readChannels(s.Watch)
		if err != nil {
			return nil, misshapen(op, err)
		}
		channels = append(channels, some...)
		if !s.Info.more() {
			return channels, nil
		}
		if len(some) == 0 {
			return nil, misshapen(op, errNotShown)
		}
	}
}

func readChannels(raw json.RawMessage) ([]Channel, error) {
	if len(raw) == 0 {
		return nil, errNotShown
	}
	var rows []struct {
		ID        text     `json:"channel_id"`
		Events    []string `json:"events"`
		NotifyURL text     `json:"notify_url"`
		Token     text     `json:"token"`
		Expiry    text     `json:"channel_expiry"`
		Module    text     `json:"resource_name"`
	}
	if err := json.Unmarshal(raw, &rows); err != nil {
		return nil, err
	}
	if rows == nil {
		return nil, errNotShown
	}
	var channels []Channel
	for _, r := range rows {
		expires, _ := parseTime(r.Expiry.String()) // zero, which is long ago, when it is none
		channels = append(channels, Channel{
			ID: r.ID.String(), Events: r.Events, NotifyURL: r.NotifyURL.String(), Token: r.Token.String(),
			Expires: expires, Module: r.Module.String(),
		})
	}
	return channels, nil
}

// StopEvents takes events from a channel.
func (c *Client) StopEvents(ctx context.Context, id string, events []string) error {
	_, err := c.do(ctx, call{
		op: "stop events of channel " + id, method: http.MethodPatch, path: watchPath,
		body: watches{[]watch{{ChannelID: id, Events: events, DeleteEvents: true}}},
	})
	return err
}

// DisableChannels removes channels. One that Zoho has forgotten is no error.
func (c *Client) DisableChannels(ctx context.Context, ids []string) error {
	for some := range slices.Chunk(ids, watchMax) {
		err := c.disable(ctx, some)
		if err == nil {
			continue
		}
		if len(some) == 1 || KindOf(err) != KindInvalid {
			return err
		}
		// One of them is at fault: the others shall be gone all the same.
		var failed error
		for _, id := range some {
			err := c.disable(ctx, []string{id})
			if err != nil && KindOf(err) != KindInvalid {
				return err
			}
			failed = cmp.Or(failed, err)
		}
		if failed != nil {
			return failed
		}
	}
	return nil
}

func (c *Client) disable(ctx context.Context, ids []string) error {
	_, err := c.do(ctx, call{
		op: "disable channels " + strings.Join(ids, ","), method: http.MethodDelete, path: watchPath,
		query: url.Values{"channel_ids": {strings.Join(ids, ",")}},
	})
	var e *Error
	if errors.As(err, &e) && e.Code == NotSubscribed && len(ids) == 1 {
		return nil
	}
	return err
}
