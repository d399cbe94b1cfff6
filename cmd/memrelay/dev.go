package main

import (
	"context"
)

type devCommand struct {
	Once bool `help:"Send sample traffic through it, check what came of it, and end."`
}

func (c devCommand) Run(ctx context.Context, s streams) error { return nil }
