package pages

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/memrelay/memrelay/internal/contract"
)

// kindOf is the type of a schema in words.
func kindOf(s *jsonschema.Schema) kind {
	if s == nil {
		return kind{}
	}
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		return kind{Text: name, Ref: name}
	}
	if len(s.AnyOf) > 0 {
		k := kindOf(s.AnyOf[0])
		for _, other := range s.AnyOf[1:] {
			k.Text += " or " + kindOf(other).Text
		}
		return k
	}
	text := s.Type
	if text == "" {
		text = strings.Join(s.Types, " or ")
	}
	switch {
	case s.Items != nil:
		of := kindOf(s.Items)
		return kind{Text: "list of " + of.Text, Ref: of.Ref}
	case s.Format != "":
		text += " (" + s.Format + ")"
	}
	return kind{Text: cmp.Or(text, "anything")}
}

// bounds are those of a schema in words.
func bounds(s *jsonschema.Schema) string {
	if s == nil {
		return ""
	}
	var said []string
	say := func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	switch {
	case s.Const != nil:
		say("always %v", *s.Const)
	case len(s.Enum) > 0:
		say("one of %s", listed(s.Enum))
	case s.Items != nil && len(s.Items.Enum) > 0:
		say("each one of %s", listed(s.Items.Enum))
	}
	between := func(what string, least, most *int) {
		switch {
		case least != nil && most != nil:
			say("%d to %d %s", *least, *most, what)
		case most != nil:
			say("at most %d %s", *most, what)
		case least != nil:
			say("at least %d %s", *least, what)
		}
	}
	between("bytes", s.MinLength, s.MaxLength)
	between("items", s.MinItems, s.MaxItems)
	if s.Minimum != nil {
		say("at least %v", *s.Minimum)
	}
	if s.Maximum != nil {
		say("at most %v", *s.Maximum)
	}
	if s.Default != nil {
		say("default %s", s.Default)
	}
	return strings.Join(said, "; ")
}

func listed(values []any) string {
	var names []string
	for _, v := range values {
		if v != nil {
			names = append(names, fmt.Sprint(v))
		}
	}
	return strings.Join(names, ", ")
}

// needs says what lets a request in.
func needs(security []map[string][]string) string {
	var ways []string
	for _, way := range security {
		var together []string
		for _, scheme := range slices.Sorted(maps.Keys(way)) {
			if scheme == contract.Bearer {
				together = append(together, "a token with the scope "+strings.Join(way[scheme], ", "))
			} else {
				together = append(together, scheme)
			}
		}
		if len(together) > 0 {
			ways = append(ways, strings.Join(together, " and "))
		}
	}
	return strings.Join(ways, ", or ")
}

// curl is a command that sends the first example; "" for a webhook.
func curl(path, method string, e *contract.Endpoint) string {
	if !strings.HasPrefix(path, "/") {
		return ""
	}
	query := url.Values{}
	for _, p := range e.Parameters {
		switch {
		case p.In == "path" && p.Example != nil:
			path = strings.ReplaceAll(path, "{"+p.Name+"}", url.PathEscape(fmt.Sprint(p.Example)))
		case p.In == "query" && p.Example != nil:
			query.Set(p.Name, fmt.Sprint(p.Example))
		}
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	command := "curl "
	if method != "get" && (method != "post" || e.RequestBody == nil) {
		command += "-X " + strings.ToUpper(method) + " "
	} else if method == "patch" || method == "delete" {
		command += "-X " + strings.ToUpper(method) + " "
	}
	command += "'http://localhost:8000" + path + "'"
	for _, way := range e.Security {
		if _, ok := way[contract.Bearer]; ok {
			command += ` \` + "\n  -H \"Authorization: Bearer $TOKEN\""
			break
		}
	}
	if e.RequestBody == nil {
		return command
	}
	media := e.RequestBody.Content["application/json"]
	for _, name := range slices.Sorted(maps.Keys(media.Examples)) {
		body, err := encode(media.Examples[name].Value, "")
		if err == nil {
			return command + ` \` + "\n  -H 'Content-Type: application/json' \\\n  -d '" + strings.ReplaceAll(body, "'", `'\''`) + "'"
		}
	}
	return command
}
