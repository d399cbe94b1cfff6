package channel

import (
	"fmt"
	"slices"
	"strings"

	"github.com/memrelay/memrelay/internal/zoho"
)

// Unwatched is a module that Zoho sends no notifications about.
type Unwatched struct {
	Module string `json:"module"`
	Reason string `json:"reason"`
}

// String is the module and the reason.
func (u Unwatched) String() string { return u.Module + ": " + u.Reason }

// The operations that a channel's events may name, as Zoho's API says them.
var operations = []string{"create", "edit", "delete", "all"}

// maxEvents is how many events Zoho takes for one channel.
const maxEvents = 50

// watchable parts modules into those that get a channel, by the names of Zoho's
// API, each once, and those that cannot have one. A module that is not known
// here may be the organisation's own: Zoho decides.
func watchable(modules []string) (watched []string, unwatched []Unwatched) {
	watched, unwatched = []string{}, []Unwatched{}
	for _, m := range modules {
		names, reason := apiNames(m)
		if reason != "" {
			unwatched = append(unwatched, Unwatched{Module: names[0], Reason: reason})
			continue
		}
		for _, name := range names {
			if !slices.Contains(watched, name) {
				watched = append(watched, name)
			}
		}
	}
	return watched, unwatched
}

// apiNames returns the modules of Zoho's API that a name stands for, or why Zoho
// tells nothing about it.
// https://www.zoho.com/crm/developer/docs/api/v8/notifications/enable.html
func apiNames(module string) (names []string, reason string) {
	switch module = strings.TrimSpace(module); strings.ToLower(strings.ReplaceAll(module, " ", "_")) {
	case "notes":
		return []string{"Notes"}, "Zoho sends no notifications; the hourly sync reads them"
	case "activities":
		return zoho.Listed("Activities"), ""
	case "meetings":
		return zoho.Listed("Meetings"), ""
	case "leads", "accounts", "contacts", "deals", "campaigns", "tasks", "events", "cases", "calls", "solutions", "products", "vendors", "quotes", "invoices":
		return []string{strings.ToUpper(module[:1]) + strings.ToLower(module[1:])}, ""
	case "price_books":
		return []string{"Price_Books"}, ""
	case "sales_orders":
		return []string{"Sales_Orders"}, ""
	case "purchase_orders":
		return []string{"Purchase_Orders"}, ""
	}
	return []string{module}, ""
}

// resolve reads modules as a person names them. The error is ErrInvalid.
func resolve(modules []string) ([]string, error) {
	watched, unwatched := watchable(modules)
	if len(unwatched) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrInvalid, unwatched[0])
	}
	return watched, nil
}

// resolveOne is resolve for one module, which must not stand for several.
func resolveOne(module string) (string, error) {
	modules, err := resolve([]string{module})
	if err != nil {
		return "", err
	}
	if len(modules) != 1 {
		return "", fmt.Errorf("%w: %s stands for %s: name one of them", ErrInvalid, module, strings.Join(modules, ", "))
	}
	return modules[0], nil
}

// eventNames reads events of a module, with or without the module's name before
// them. The error is ErrInvalid.
func eventNames(module string, events []string) ([]string, error) {
	var names []string
	for _, e := range events {
		operation := strings.ToLower(strings.TrimPrefix(e, module+"."))
		if !slices.Contains(operations, operation) {
			return nil, fmt.Errorf("%w: %s is no event of %s: want %s", ErrInvalid, e, module, strings.Join(operations, ", "))
		}
		if name := module + "." + operation; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 || len(names) > maxEvents {
		return nil, fmt.Errorf("%w: want 1 to %d events", ErrInvalid, maxEvents)
	}
	return names, nil
}
