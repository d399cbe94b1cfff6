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
func text(raw json.RawMessage) string { return read(decode(raw)) }

// lookupName is the name in a lookup, "" for what is none.
func lookupName(raw json.RawMessage) string { return nameIn(decode(raw)) }

// decode keeps numbers as they are written, for ids are greater than a float can
// hold. What is no JSON is nil.
func decode(raw json.RawMessage) any {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return nil
	}
	return value
}

func read(value any) string {
	switch v := value.(type) {
	case string:
		return strings.TrimSpace(v)
	case bool:
		return strconv.FormatBool(v)
	case json.Number:
		return number(v.String())
	case []any:
		var texts []string
		for _, item := range v {
			if s := read(item); s != "" {
				texts = append(texts, s)
			}
		}
		return strings.Join(texts, ", ")
	case map[string]any:
		if name := nameIn(v); name != "" {
			return name
		}
		return object(v)
	default:
		return ""
	}
}

func nameIn(value any) string {
	lookup, _ := value.(map[string]any)
	name, _ := lookup["name"].(string)
	return strings.TrimSpace(name)
}

// object is a JSON object without spaces, its keys in order; "" for an empty one.
func object(value map[string]any) string {
	if len(value) == 0 {
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
// written, as Postgres shows a numeric: 1.50e1 is 15.0, 1E7 is 10000000.
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
	// Noughts on both sides, so that there are digits wherever the point goes.
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
