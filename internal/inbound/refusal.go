package inbound

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// maxEcho bounds what a message repeats of the input, in characters.
const maxEcho = 64

// refusal says why a body is not accepted. It is a value, never a pointer.
type refusal struct {
	Status  int    // of the HTTP answer
	Code    string // for programs; part of the API, never changed
	Message string // for people; names the field, repeats little of the input
}

func (r refusal) Error() string { return r.Message }

func refuse(status int, code, format string, args ...any) error {
	return refusal{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

// at names the field that a refusal is about.
func at(err error, format string, args ...any) error {
	var r refusal
	if errors.As(err, &r) {
		r.Message = fmt.Sprintf(format, args...) + " " + r.Message
		return r
	}
	return err
}

// quote returns s for a message, cut to maxEcho characters.
func quote(s string) string {
	if utf8.RuneCountInString(s) > maxEcho {
		return strconv.Quote(string([]rune(s)[:maxEcho])) + "…"
	}
	return strconv.Quote(s)
}
