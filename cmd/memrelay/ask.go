package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// askAbove is how many are sent or run again, or discarded, without a question.
const askAbove = 100

// asking is the flag of commands that ask.
type asking struct {
	Yes bool `help:"Do not ask."`
}

// ask asks before something that cannot be taken back, or is of many.
func (c asking) ask(ctx context.Context, s streams, question string, args ...any) error {
	if c.Yes {
		return nil
	}
	return s.confirm(ctx, os.Stdin, fmt.Sprintf(question, args...))
}

// confirm asks whoever sits at the terminal; without one, or with another answer
// than yes, it is wrong usage.
func (s streams) confirm(ctx context.Context, in *os.File, question string) error {
	info, err := in.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return usage(fmt.Errorf("%s Nobody is here to ask: say --yes", question))
	}
	fmt.Fprint(s.err, question, " Type yes: ")
	answer, err := readLine(ctx, in)
	if err != nil {
		return err
	}
	if answer != "yes" {
		return usage(errors.New("nothing was done: say --yes, or type yes"))
	}
	return nil
}

// readLine waits for a line; nothing and no answer are the same.
func readLine(ctx context.Context, in io.Reader) (string, error) {
	typed := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(in).ReadString('\n')
		typed <- strings.TrimSpace(line)
	}()
	select {
	case line := <-typed:
		return line, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
