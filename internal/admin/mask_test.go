package admin_test

import (
	"strings"
	"testing"

	"github.com/memrelay/memrelay/internal/admin"
)

func TestNoTokenIsShown(t *testing.T) {
	t.Parallel()
	const form, parts = "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"
	const gone = "[hidden: this body cannot be read, and holds the word token]"
	part := func(name, value string) string {
		return "--b\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n"
	}
	for name, c := range map[string]struct{ contentType, body, want string }{
		"as it came":                  {"application/json", ` {"a" : 1.0,  "b":["to\u006ben"], "c":"<&>"}` + "\n", ` {"a" : 1.0,  "b":["to\u006ben"], "c":"<&>"}` + "\n"},
		"JSON that says it is a form": {form, `{"token":"s3cret"}`, `{"token":"[hidden]"}`},
		"deeper":                      {"application/json", `{"event":{"a":[1,{"Token" : {"s3cret":["s3cret"]} }]},"b":2}`, `{"event":{"a":[1,{"Token" : "[hidden]" }]},"b":2}`},
		"in a list":                   {"application/json", `[{"token":"s3cret"},{"token":12345,"b":1},{"token":null}]`, `[{"token":"[hidden]"},{"token":"[hidden]","b":1},{"token":null}]`},
		"escaped":                     {"", `{"\u0074oken":"s3cret\"\\"}`, `{"\u0074oken":"[hidden]"}`},
		"in a string":                 {"application/json", `{"raw_body":"{\"token\":\"s3cret\",\"a\":\"<\"}"}`, `{"raw_body":"{\"token\":\"[hidden]\",\"a\":\"<\"}"}`},
		"in a string of a string":     {"application/json", `{"b":"\"{\\\"token\\\":\\\"s3cret\\\"}\""}`, `{"b":"\"{\\\"token\\\":\\\"[hidden]\\\"}\""}`},
		"a form in a string":          {"application/json", `{"body":"a=1&token=s3cret"}`, `{"body":"a=1&token=[hidden]"}`},
		"half JSON in a string":       {"application/json", `{"body":"{\"token\":\"s3cret"}`, `{"body":"[hidden]"}`},
		"a text about it":             {"application/json", `{"Description":"lost my token"}`, `{"Description":"lost my token"}`},
		"half JSON":                   {"application/json", `{"a":1,"token":"s3cret`, gone},
		"half JSON, escaped":          {"application/json", `{"\u0074oken":"s3cret`, gone},
		"half JSON of something else": {"application/json", `{"a":1`, `{"a":1`},
		"a form":                      {form + "; charset=utf-8", "module=Deals&Token=s3cret&id=1", "module=Deals&Token=[hidden]&id=1"},
		"a form behind a new line":    {form, "\n token=s3cret&id=1", "\n token=[hidden]&id=1"},
		"a form, escaped":             {form, "t%6Fken=s3cret&id=1", "t%6Fken=[hidden]&id=1"},
		"a form of depth":             {form, "event[token]=s3cret&event%5BToken%5D=s3cret", "event[token]=[hidden]&event%5BToken%5D=[hidden]"},
		"JSON in a form":              {form, `data=%7B%22token%22%3A%22s3cret%22%7D&id=1`, `data=%7B%22token%22%3A%22%5Bhidden%5D%22%7D&id=1`},
		"a form that is none":         {form, "token=s3cret;a=%zz", gone},
		"parts":                       {parts, part("token", "s3cret") + part("a", `{"token":"s3cret"}`) + "--b--\r\n", part("token", "[hidden]") + part("a", `{"token":"[hidden]"}`) + "--b--\r\n"},
		"parts that end early":        {parts, part("token", "s3cret"), gone},
		"parts without a boundary":    {"multipart/form-data", part("token", "s3cret") + "--b--\r\n", gone},
		"markup":                      {"text/html", "<b>1</b>", "<b>1</b>"},
		"markup with one":             {"text/html", "<token>s3cret</token>", gone},
		"of two bytes a letter":       {"application/json", strings.Join(strings.Split(`{"token":"s3cret"}`, ""), "\x00"), gone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := string(admin.Masked(c.contentType, []byte(c.body))); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
	deep := `{"token":"s3cret"}`
	for range 12 {
		deep = `["` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(deep) + `"]`
	}
	if got := string(admin.Masked("", []byte(deep))); strings.Contains(got, "s3cret") {
		t.Error("a token is shown that lies in twelve strings")
	}
}
