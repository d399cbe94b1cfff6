// Command memrelay keeps an AI's memory true to Zoho CRM. What the program is
// told to do goes in as arguments and environment; each command has a file here
// and its work elsewhere.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log" //nolint:depguard // to silence it
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // SYNC_TIMEZONE is known also where the machine has no list of zones, as in a small image

	"github.com/alecthomas/kong"

	"github.com/memrelay/memrelay/internal/importer"
)

// version is set when the program is built.
var version = "dev"

// Exit codes: done, failed, and used wrongly.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	// net/http prints what a receiver sends unasked through the standard logger; our own
	// token may be in it. Nothing of ours writes there.
	log.SetOutput(io.Discard)
	importer.Silence()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Environ(), onScreen(os.Stdout), onScreen(os.Stderr))
	stop()
	os.Exit(code)
}

// commands is the command line.
type commands struct {
	JSON         bool `name:"json" help:"Print JSON, for machines."`
	InsecureHTTP bool `name:"insecure-http" help:"Send MEMRELAY_TOKEN over http to another machine, where others may read it."`

	Dev        devCommand        `cmd:"" help:"Run everything on this machine, no database needed."`
	Serve      serveCommand      `cmd:"" help:"Take webhooks and work them."`
	Work       workCommand       `cmd:"" help:"Work without taking webhooks."`
	Migrate    migrateCommand    `cmd:"" help:"Bring the database's schema up or down."`
	Events     eventsCommand     `cmd:"" help:"Look at events, run them again."`
	Dead       deadCommand       `cmd:"" help:"Decide about what used up its attempts."`
	Endpoints  endpointsCommand  `cmd:"" help:"Say who is told, and look after them."`
	Deliveries deliveriesCommand `cmd:"" help:"Look at what was told, send it again."`
	Channels   channelsCommand   `cmd:"" help:"Have Zoho tell of changes: its notification channels."`
	Sync       syncCommand       `cmd:"" help:"Hold what Zoho has against what is known."`
	Tokens     tokensCommand     `cmd:"" help:"Say who may use the API."`
	Import     importCommand     `cmd:"" help:"Move over from another webhook sync."`
	Record     recordCommand     `cmd:"" help:"Look at what happened to a record."`
	Queues     queuesCommand     `cmd:"" help:"Look at queues, let them rest."`
	Jobs       jobsCommand       `cmd:"" help:"Look at jobs, end them, try them again."`
	Stats      statsCommand      `cmd:"" help:"Show how much comes, how long it takes and what waits."`
	Rejected   rejectedCommand   `cmd:"" help:"List who was turned away, newest first."`
	Settings   settingsCommand   `cmd:"" help:"List the settings in force, without secrets."`
	Audit      auditCommand      `cmd:"" help:"List who did what, newest first."`
	Memory     memoryCommand     `cmd:"" help:"Look after the copies of the memory elsewhere."`
	SQL        sqlCommand        `cmd:"" name:"sql" help:"Say who may look into the database."`
	MCP        mcpCommand        `cmd:"" name:"mcp" help:"Let an agent use the memory as MCP tools, over stdin and stdout."`
	Send       sendCommand       `cmd:"" help:"Send a signed test webhook."`
	Zoho       zohoCommand       `cmd:"" help:"Connect with Zoho CRM, and look how that stands."`
	Doctor     doctorCommand     `cmd:"" help:"Look at everything this depends on, and say what to do."`
	Secret     secretCommand     `cmd:"" help:"Print a fresh secret."`
	Completion completionCommand `cmd:"" help:"Print what makes a shell complete commands and flags."`
	Version    versionCommand    `cmd:"" help:"Print the version."`
}

// streams are where a command reads its settings from and writes to.
type streams struct {
	environ []string
	out     io.Writer // what was asked for
	err     io.Writer // logs and what went wrong
	asJSON  bool      // print JSON
	// insecure lets MEMRELAY_TOKEN be sent over http to another machine.
	insecure bool
}

// run does what args say and returns the exit code.
func run(ctx context.Context, args, environ []string, out, errOut io.Writer) int {
	exited := -1
	var c commands
	parser, err := newParser(&c,
		kong.Writers(out, errOut),
		kong.Exit(func(code int) { exited = code }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.UsageOnError(),
	)
	if err != nil {
		fmt.Fprintln(errOut, "memrelay:", err)
		return exitFailed
	}
	k, err := parser.Parse(args)
	if exited >= 0 {
		return exited // --help was asked for
	}
	if err != nil {
		var parse *kong.ParseError
		if errors.As(err, &parse) {
			_ = parse.Context.PrintUsage(true)
		}
		fmt.Fprintln(errOut, "memrelay:", err)
		return exitUsage
	}
	if err := k.Run(streams{environ: environ, out: out, err: errOut, asJSON: c.JSON, insecure: c.InsecureHTTP}); err != nil {
		fmt.Fprintln(errOut, "memrelay:", err)
		if errors.Is(err, errUsage) {
			return exitUsage
		}
		return exitFailed
	}
	return exitDone
}

// newParser makes what reads the command line into c, and tells what there is.
func newParser(c *commands, options ...kong.Option) (*kong.Kong, error) {
	parser, err := kong.New(c, append([]kong.Option{
		kong.Name("memrelay"),
		kong.Description("Keeps an AI's memory true to Zoho CRM, and tells everyone who asked whenever it changes."),
	}, options...)...)
	if err != nil {
		return nil, fmt.Errorf("build the command line: %w", err)
	}
	withExamples(parser.Model.Node)
	return parser, nil
}

// errUsage marks an error of whoever typed the command.
var errUsage = errors.New("wrong usage")

func usage(err error) error { return fmt.Errorf("%w: %w", errUsage, err) }
