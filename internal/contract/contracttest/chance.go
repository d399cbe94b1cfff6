package contracttest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// value is one by chance that the schema allows.
func (m *maker) value(schema map[string]any, depth int) any {
	schema = m.follow(schema)
	if values := list(schema["enum"]); len(values) > 0 {
		return values[m.rand.IntN(len(values))]
	}
	kind := text(schema["type"])
	if kinds := list(schema["type"]); len(kinds) > 0 {
		kind = text(kinds[m.rand.IntN(len(kinds))])
	}
	switch kind {
	case "string":
		return m.text(schema)
	case "integer":
		return int(m.number(schema))
	case "number":
		return m.number(schema)
	case "boolean":
		return m.rand.IntN(2) == 1
	case "null":
		return nil
	case "array":
		return m.array(schema, depth)
	default:
		return m.object(schema, depth)
	}
}

func (m *maker) array(schema map[string]any, depth int) []any {
	least, _ := number(schema["minItems"])
	values := []any{}
	for range int(least) + m.rand.IntN(3) {
		values = append(values, m.value(object(schema["items"]), depth+1))
	}
	return values
}

func (m *maker) object(schema map[string]any, depth int) map[string]any {
	o := map[string]any{}
	required := list(schema["required"])
	for _, name := range slices.Sorted(maps.Keys(object(schema["properties"]))) {
		if slices.Contains(required, any(name)) || depth < 4 && m.rand.IntN(3) == 0 {
			o[name] = m.value(object(object(schema["properties"])[name]), depth+1)
		}
	}
	return o
}

func (m *maker) text(schema map[string]any) string {
	switch {
	case schema["format"] == "date-time":
		return fmt.Sprintf("2026-%02d-%02dT05:03:44Z", 1+m.rand.IntN(12), 1+m.rand.IntN(28))
	case schema["format"] == "uuid":
		return fmt.Sprintf("%08x-0000-7000-8000-%012x", m.rand.Uint32(), m.rand.Uint32())
	}
	most, bounded := number(schema["maxLength"])
	// At the bound now and then: there it shows whether it is the one that is said.
	if bounded && m.rand.IntN(4) == 0 {
		return strings.Repeat("x", int(most))
	}
	words := []string{"tea", "Graz", "renewal", "Jänner", "日本", "a \"quoted\" word", "5m", "🙂"}
	return words[m.rand.IntN(len(words))]
}

func (m *maker) number(schema map[string]any) float64 {
	least, _ := number(schema["minimum"])
	most, ok := number(schema["maximum"])
	if !ok {
		most = least + 1000
	}
	return least + float64(m.rand.IntN(int(most-least)+1))
}
