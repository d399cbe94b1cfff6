package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// answerLimit is how long an answer may take before the run is given up.
const answerLimit = 30 * time.Second

// errNoLength is returned for a body whose end only its framing would tell.
var errNoLength = errors.New("no Content-Length")

// wire is one kept connection that carries requests made beforehand. net/http's client
// takes as much of the processor as the server that is measured; this takes a tenth.
type wire struct {
	conn net.Conn
	in   *bufio.Reader
}

func dial(ctx context.Context, addr string) (*wire, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return &wire{conn: conn, in: bufio.NewReaderSize(conn, 4096)}, nil
}

// do sends a request and waits for its answer. Another answer than 200 to 299 is an error.
func (w *wire) do(request []byte) error {
	if err := w.conn.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		return err
	}
	if _, err := w.conn.Write(request); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	status := 0
	length, err := readHead(w.in, func(line []byte) (err error) {
		status, err = statusOf(line)
		return err
	}, nil)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if status >= 200 && status < 300 {
		_, err = w.in.Discard(length)
		return err
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(w.in, body); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return fmt.Errorf("answered %d: %s", status, body)
}

// statusOf reads the code out of a line like "HTTP/1.1 200 OK".
func statusOf(line []byte) (int, error) {
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return 0, fmt.Errorf("%q is no status line", line)
	}
	return strconv.Atoi(string(line[9:12]))
}

// readHead reads a request's or an answer's head, hands on its first line and its
// fields, and returns the length of the body that follows. What it hands on is good
// until the callback returns. It returns io.EOF when nothing comes any more.
func readHead(in *bufio.Reader, first func(line []byte) error, field func(name, value []byte)) (length int, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if err := first(bytes.TrimRight(line, "\r\n")); err != nil {
		return 0, err
	}
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return length, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimLeft(value, " ")
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, fmt.Errorf("read the length: %w", err)
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			return 0, errNoLength
		case field != nil:
			field(name, value)
		}
	}
}
