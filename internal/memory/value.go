package memory

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// text is a value as a person reads it: a lookup is its name, a list its items,
// null and empty nothing. It depends on the value alone and not on how it was
// written, for a database gives objects and numbers back in another form than
// they came in, and that must not read as a change.
func text(raw json.RawMessage) string {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return ""
	}
	switch raw[0] {
	case '"':
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return ""
		}
		return strings.TrimSpace(s)
	case '{':
		if name := lookupName(raw); name != "" {
			return name
		}
		return object(raw)
	case '[':
		var items []json.RawMessage
		if json.Unmarshal(raw, &items) != nil {
			return ""
		}
		var texts []string
		for _, item := range items {
			if s := text(item); s != "" {
				texts = append(texts, s)
			}
		}
		return strings.Join(texts, ", ")
	case 'n':
		return ""
	case 't', 'f':
		return string(raw)
	default:
		return number(string(raw))
	}
}

func lookupName(raw json.RawMessage) string {
	var l struct {
		Name string `json:"name"`
	}
	if json.Unmarshal(raw, &l) != nil {
		return ""
	}
	return strings.TrimSpace(l.Name)
}

// object is a JSON object without spaces, its keys in order; "" for an empty one.
func object(raw json.RawMessage) string {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value map[string]any
	if decoder.Decode(&value) != nil || len(value) == 0 {
		return ""
	}
	var out strings.Builder
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if encoder.Encode(plain(value)) != nil {
		return ""
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// plain writes all numbers in value in their one form.
func plain(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for key := range v {
			v[key] = plain(v[key])
		}
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	case json.Number:
		return json.Number(number(v.String()))
	}
	return value
}

// maxExponent is beyond what any figure about a customer needs. A number with a
// greater one is left as it is: written out it would fill the memory.
const maxExponent = 400

// number is a JSON number without its exponent, with as many decimals as were
// written, as numeric of Postgres shows it: 1.50e1 is 15.0, 1E7 is 10000000.
func number(n string) string {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(n), "e")
	shift := 0
	if exponent != "" {
		var err error
		if shift, err = strconv.Atoi(exponent); err != nil || shift > maxExponent || shift < -maxExponent {
			return n
		}
	}
	mantissa, negative := strings.CutPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	if shift > len(fraction) {
		fraction += strings.Repeat("0", shift-len(fraction))
	}
	if -shift >= len(whole) {
		whole = strings.Repeat("0", 1-shift-len(whole)) + whole
	}
	digits, point := whole+fraction, len(whole)+shift
	whole, fraction = strings.TrimLeft(digits[:point], "0"), digits[point:]
	if whole == "" {
		whole = "0"
	}
	if fraction != "" {
		fraction = "." + fraction
	}
	if negative && strings.Trim(digits, "0") != "" {
		whole = "-" + whole
	}
	return whole + fraction
}
