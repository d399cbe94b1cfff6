package main

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// What breaks clients is found in the two documents, unless it is announced.
func TestBreaks(t *testing.T) {
	t.Chdir("../../..") // where go.mod has the tool
	now, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	edit := func(old, replacement string) string {
		if !strings.Contains(string(now), old) {
			t.Fatalf("%s has no %s", file, old)
		}
		return strings.Replace(string(now), old, replacement, 1)
	}
	const version = `"version": "1.`
	// What is there now came of this one.
	path := edit(`"/v1/graph": {`, `"/v1/network": {`)
	for name, c := range map[string]struct {
		before, changelog string
		want              []string
	}{
		"nothing has changed":          {string(now), "", nil},
		"only words have changed":      {edit("Store a memory", "Keep a memory"), "", nil},
		"a path is gone":               {path, "## [Unreleased]\n- `GET /v1/network` is gone.\n", []string{"GET /v1/network"}},
		"it is announced":              {path, "# Changelog\n\n## [Unreleased]\n\n- Breaking: `GET /v1/network` is now /v1/graph.\n", nil},
		"another one is announced":     {path, "## [Unreleased]\n- Breaking: `GET /v1/networks` is gone.\n", []string{"GET /v1/network"}},
		"it was announced long ago":    {path, "## [Unreleased]\n\n## [1.0.0]\n- Breaking: `GET /v1/network` is gone.\n", []string{"GET /v1/network"}},
		"the version says so":          {strings.Replace(path, version, `"version": "0.`, 1), "", nil},
		"a field of a request is gone": {edit(`"overlap": {`, `"beside": {`), "", []string{"POST /admin/endpoints/{endpoint}/rotate"}},
		"a text may be shorter only":   {edit(`"maxLength": 65536`, `"maxLength": 70000`), "", []string{"PATCH /v1/memories/{id}"}},
	} {
		changes, err := compare(t.Context(), []byte(c.before))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		left, err := unannounced(changes, c.changelog, []byte(c.before), now)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var names []string
		for _, l := range left {
			names = append(names, l.name())
		}
		slices.Sort(names)
		if !slices.Equal(slices.Compact(names), c.want) {
			t.Errorf("%s: %v, want %v (%+v)", name, names, c.want, changes)
		}
	}
}
