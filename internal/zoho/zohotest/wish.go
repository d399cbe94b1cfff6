package zohotest

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxEvents    = 50 // of one channel
	maxNotifyURL = 255
	maxToken     = 50
)

// wish is a channel as a request describes it. A nil field was not given.
type wish struct {
	ChannelID   json.RawMessage `json:"channel_id"`
	Events      *[]string       `json:"events"`
	NotifyURL   *string         `json:"notify_url"`
	Token       *string         `json:"token"`
	Expiry      *string         `json:"channel_expiry"`
	WantValues  *bool           `json:"return_affected_field_values"`
	WantRelated *bool           `json:"notify_on_related_action"`
	Conditions  json.RawMessage `json:"notification_condition"`
	Delete      bool            `json:"_delete_events"`

	id     string
	events map[string][]string // Events by module, .all expanded
}

// readWish reads one channel of a request and checks what is given.
func (s *Server) readWish(raw json.RawMessage, path string) (*wish, *envelope) {
	w := &wish{}
	if err := json.Unmarshal(raw, w); err != nil {
		var wrong *json.UnmarshalTypeError
		name := ""
		if errors.As(err, &wrong) {
			name = wrong.Field
		}
		return nil, invalid(name, path)
	}
	w.id = string(bytes.Trim(w.ChannelID, `"`))
	switch {
	case w.id == "" || w.id == "null":
		return nil, mandatory("channel_id", path)
	case !isDigits(w.id) || !fitsLong(w.id):
		return nil, invalid("channel_id", path)
	case w.Token != nil && len(*w.Token) > maxToken:
		return nil, invalid("token", path)
	case w.NotifyURL != nil && !isNotifyURL(*w.NotifyURL):
		return nil, invalid("notify_url", path)
	}
	if w.Expiry != nil {
		at, err := parseZohoTime(*w.Expiry)
		if err != nil || !at.After(s.o.Now()) {
			return nil, invalid("channel_expiry", path)
		}
	}
	if w.Events != nil && !s.readEvents(w) {
		return nil, invalid("events", path)
	}
	return w, nil
}

// readEvents sorts the events by module and reports whether they are good.
func (s *Server) readEvents(w *wish) bool {
	w.events = map[string][]string{}
	for _, event := range *w.Events {
		name, verb, _ := strings.Cut(event, ".")
		m := s.store.modules[name]
		if m == nil || m.Unwatchable {
			return false
		}
		known := false
		for _, v := range verbs {
			if verb == "all" || verb == v.event {
				known = true
				if !slices.Contains(w.events[name], v.event) {
					w.events[name] = append(w.events[name], v.event)
				}
			}
		}
		if !known {
			return false
		}
	}
	return len(*w.Events) > 0 && len(*w.Events) <= maxEvents
}

// missing says what a new channel cannot do without.
func (w *wish) missing(path string) *envelope {
	switch {
	case w.Events == nil:
		return mandatory("events", path)
	case w.NotifyURL == nil:
		return mandatory("notify_url", path)
	default:
		return nil
	}
}

func isNotifyURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && len(text) <= maxNotifyURL && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http")
}

// fitsLong reports whether digits are a positive number of 64 bits: an assumption.
func fitsLong(digits string) bool {
	n, err := strconv.ParseInt(digits, 10, 64)
	return err == nil && n > 0
}

// parseZohoTime reads a time with an offset and without fractions of a second.
func parseZohoTime(text string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, text)
	if err == nil && strings.Contains(text, ".") {
		err = errors.New("fractions of a second")
	}
	return at, err
}

func mandatory(name, path string) *envelope {
	e := failure("MANDATORY_NOT_FOUND", "required field not found", details{"api_name": name, "json_path": path + "." + name})
	return &e
}

func invalid(name, path string) *envelope {
	e := failure("INVALID_DATA", "invalid data", details{"api_name": name, "json_path": path + "." + name})
	return &e
}

func notSubscribed(id string) *envelope {
	e := failure("NOT_SUBSCRIBED", "there is no such channel", details{"channel_id": id})
	return &e
}
