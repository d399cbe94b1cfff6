package exchange

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/memrelay/memrelay/internal/memory"
)

// JSON is value as a request's body. An error is about an item: its metadata holds
// something that no JSON can.
func JSON(value any) ([]byte, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, &memory.RemoteError{Kind: memory.RemoteRefused, Message: "it cannot be written as JSON", Err: err}
	}
	return text, nil
}

// Into reads an answer that is one JSON value.
func Into(value any) func(io.Reader) error {
	return func(from io.Reader) error {
		d := json.NewDecoder(from)
		if err := d.Decode(value); err != nil {
			return err
		}
		return atEnd(d)
	}
}

// Rows reads a list one row at a time, so that a long one takes no more memory
// than what is kept of it. The list is the answer itself, or stands under key in
// an object; beside, unless nil, gets the object's other values. An object without
// it is an error, and so is a list that breaks off: neither says that there is nothing.
func Rows[T any](key string, row func(T), beside func(key string, value json.RawMessage)) func(io.Reader) error {
	return func(from io.Reader) error {
		d := json.NewDecoder(from)
		start, err := d.Token()
		if err != nil {
			return err
		}
		switch start {
		case json.Delim('['):
			err = rowsOf(d, row)
		case json.Delim('{'):
			err = rowsUnder(d, key, row, beside)
		default:
			err = errors.New("no list")
		}
		if err != nil {
			return err
		}
		return atEnd(d)
	}
}

// rowsOf reads the rows of an array that has begun, and its end.
func rowsOf[T any](d *json.Decoder, row func(T)) error {
	for d.More() {
		var one T
		if err := d.Decode(&one); err != nil {
			return err
		}
		row(one)
	}
	_, err := d.Token()
	return err
}

// rowsUnder reads an object that has begun.
func rowsUnder[T any](d *json.Decoder, key string, row func(T), beside func(string, json.RawMessage)) error {
	found := false
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		if name == key {
			start, err := d.Token()
			if err != nil {
				return err
			}
			if start != json.Delim('[') {
				return fmt.Errorf("%s is no list", key)
			}
			if err := rowsOf(d, row); err != nil {
				return err
			}
			found = true
			continue
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
		if beside != nil {
			beside(name.(string), value)
		}
	}
	if !found {
		return fmt.Errorf("no %s", key)
	}
	_, err := d.Token()
	return err
}

// atEnd is an error when something follows, or when the end did not come.
func atEnd(d *json.Decoder) error {
	_, err := d.Token()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err == nil:
		return errors.New("something follows the JSON")
	default:
		return err
	}
}
