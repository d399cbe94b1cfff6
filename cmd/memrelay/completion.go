package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Run prints what the shell is to read.
func (c completionCommand) Run(s streams) error {
	parser, err := newParser(&commands{})
	if err != nil {
		return err
	}
	places := placesOf(parser.Model.Node)
	var script string
	switch c.Shell {
	case "zsh":
		script = zshCompletion(places)
	case "fish":
		script = fishCompletion(places)
	default:
		script = bashCompletion(places)
	}
	_, err = io.WriteString(s.out, script)
	return err
}

// offer is a word that can be completed to.
type offer struct {
	word, help string
	takes      bool     // a flag that has a value
	values     []string // that the value is one of; none: it can be many
}

// place is where on the command line something is completed: behind "events list".
type place struct {
	path     string
	commands []offer // what can follow: commands, or the values of an argument
	flags    []offer
}

// placesOf are all places, the first one behind the program's name.
func placesOf(root *kong.Node) []place {
	var all []place
	var walk func(n *kong.Node, path string)
	walk = func(n *kong.Node, path string) {
		p := place{path: path}
		for _, group := range n.AllFlags(true) {
			for _, f := range group {
				p.flags = append(p.flags, offersOf(f)...)
			}
		}
		for _, arg := range n.Positional {
			for _, value := range enumOf(arg) {
				p.commands = append(p.commands, offer{word: value})
			}
		}
		for _, child := range n.Children {
			if !child.Hidden {
				p.commands = append(p.commands, offer{word: child.Name, help: child.Help})
			}
		}
		all = append(all, p)
		for _, child := range n.Children {
			if !child.Hidden {
				walk(child, strings.TrimSpace(path+" "+child.Name))
			}
		}
	}
	walk(root, "")
	return all
}

func offersOf(f *kong.Flag) []offer {
	o := offer{word: "--" + f.Name, help: f.Help, takes: !f.IsBool() && !f.IsCounter(), values: enumOf(f.Value)}
	if f.Tag.Negatable == "" {
		return []offer{o}
	}
	return []offer{o, {word: "--no-" + f.Name, help: "Not: " + f.Help}}
}

// enumOf are the values there are; none when it can be many.
func enumOf(v *kong.Value) []string {
	if v.Enum == "" {
		return nil
	}
	return slices.DeleteFunc(v.EnumSlice(), func(value string) bool { return value == "" })
}

const bashHead = `# Completion of memrelay for bash: source <(memrelay completion bash)

_memrelay_in() { [[ " $2 " == *" $1 "* ]]; }

_memrelay() {
	local cur="${COMP_WORDS[COMP_CWORD]}" at="" flag="" commands="" flags="" values="" word before="" i
	_memrelay_at ""
	for ((i = 1; i < COMP_CWORD; i++)); do
		word="${COMP_WORDS[i]}"
		if [[ $word == "=" ]]; then
			continue
		elif [[ $before != "=" ]] && ! _memrelay_in "$before=" "$flags" && _memrelay_in "$word" "$commands"; then
			at="${at:+$at }$word"
			_memrelay_at "$at"
		fi
		before="$word"
		[[ ${COMP_WORDS[i + 1]} == "=" ]] && before="="
	done
	# A word ends at "=", so that a flag and its value are three.
	if [[ $cur == "=" ]]; then
		flag="${COMP_WORDS[COMP_CWORD - 1]}" cur=""
	elif [[ ${COMP_WORDS[COMP_CWORD - 1]} == "=" ]]; then
		flag="${COMP_WORDS[COMP_CWORD - 2]}"
	elif _memrelay_in "${COMP_WORDS[COMP_CWORD - 1]}=" "$flags"; then
		flag="${COMP_WORDS[COMP_CWORD - 1]}"
	fi
	if [[ -n $flag ]]; then
		_memrelay_values "$at $flag"
		COMPREPLY=($(compgen -W "$values" -- "$cur"))
	elif [[ $cur == -* ]]; then
		COMPREPLY=($(compgen -W "$flags" -- "$cur"))
		[[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
	else
		COMPREPLY=($(compgen -W "$commands" -- "$cur"))
	fi
}

complete -o default -F _memrelay memrelay

`

// bashCompletion is a script for bash. All words in it are letters and dashes.
func bashCompletion(places []place) string {
	var at, values strings.Builder
	for _, p := range places {
		fmt.Fprintf(&at, "\t%q) commands=%q flags=%q ;;\n", p.path, words(p.commands), words(p.flags))
		for _, f := range p.flags {
			if len(f.values) > 0 {
				fmt.Fprintf(&values, "\t%q) values=%q ;;\n", p.path+" "+f.word, strings.Join(f.values, " "))
			}
		}
	}
	return bashHead + "_memrelay_at() {\n\tcase \"$1\" in\n" + at.String() + "\tesac\n}\n\n" +
		"_memrelay_values() {\n\tcase \"$1\" in\n" + values.String() + "\tesac\n}\n"
}

func words(offers []offer) string {
	all := make([]string, len(offers))
	for i, o := range offers {
		all[i] = o.word
		if o.takes {
			all[i] += "="
		}
	}
	return strings.Join(all, " ")
}

const zshHead = `#compdef memrelay
# Completion of memrelay for zsh: source <(memrelay completion zsh)

_memrelay_has() {
	local begin="$1" each
	shift
	for each; do
		[[ "$each" == "$begin"* ]] && return 0
	done
	return 1
}

_memrelay() {
	local at="" word i
	local -a verbs flags values
	_memrelay_at ""
	for ((i = 2; i < CURRENT; i++)); do
		word="${words[i]}"
		if _memrelay_has "${words[i-1]}=:" $flags; then
			continue
		elif _memrelay_has "$word:" $verbs; then
			at="${at:+$at }$word"
			_memrelay_at "$at"
		fi
	done
	if [[ "${words[CURRENT]}" == --*=* ]]; then
		_memrelay_values "$at ${words[CURRENT]%%=*}"
		compset -P '*='
		(( ${#values} )) && compadd -a values || _files
	elif _memrelay_has "${words[CURRENT-1]}=:" $flags; then
		_memrelay_values "$at ${words[CURRENT-1]}"
		(( ${#values} )) && compadd -a values || _files
	elif [[ "${words[CURRENT]}" == -* ]]; then
		_describe -o flag flags -S ''
	elif (( ${#verbs} )); then
		_describe command verbs
	else
		_files
	fi
}

`

// zshCompletion is a script for zsh, which shows the help beside each word.
func zshCompletion(places []place) string {
	var at, values strings.Builder
	for _, p := range places {
		fmt.Fprintf(&at, "\t%s)\n\t\tverbs=(%s)\n\t\tflags=(%s)\n\t\t;;\n", zshQuoted(p.path), described(p.commands), described(p.flags))
		for _, f := range p.flags {
			if len(f.values) > 0 {
				fmt.Fprintf(&values, "\t%s) values=(%s) ;;\n", zshQuoted(p.path+" "+f.word), strings.Join(f.values, " "))
			}
		}
	}
	return zshHead + "_memrelay_at() {\n\tcase \"$1\" in\n" + at.String() + "\tesac\n}\n\n" +
		"_memrelay_values() {\n\tvalues=()\n\tcase \"$1\" in\n" + values.String() + "\tesac\n}\n\ncompdef _memrelay memrelay\n"
}

// described are words with their help, as _describe takes them.
func described(offers []offer) string {
	all := make([]string, len(offers))
	for i, o := range offers {
		word := o.word
		if o.takes {
			word += "="
		}
		all[i] = zshQuoted(word + ":" + o.help)
	}
	return strings.Join(all, " ")
}

func zshQuoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

const fishHead = `# Completion of memrelay for fish: memrelay completion fish | source

function __memrelay_at --argument-names place
	set -l at ''
	for word in (commandline -opc)[2..-1]
		set -l next (string trim -- "$at $word")
		contains -- "$next" $__memrelay_places; and set at $next
	end
	test "$at" = "$place"
end

complete -c memrelay -e
`

// fishCompletion is a script for fish, which shows the help beside each word.
func fishCompletion(places []place) string {
	var b strings.Builder
	b.WriteString(fishHead + "set -g __memrelay_places")
	for _, p := range places[1:] {
		b.WriteString(" " + fishQuoted(p.path))
	}
	b.WriteString("\n")
	for _, p := range places {
		here := "complete -c memrelay -n " + fishQuoted("__memrelay_at "+fishQuoted(p.path))
		for _, c := range p.commands {
			fmt.Fprintf(&b, "%s -f -a %s -d %s\n", here, fishQuoted(c.word), fishQuoted(c.help))
		}
		for _, f := range p.flags {
			fmt.Fprintf(&b, "%s -l %s -d %s", here, strings.TrimPrefix(f.word, "--"), fishQuoted(f.help))
			switch {
			case len(f.values) > 0:
				b.WriteString(" -x -a " + fishQuoted(strings.Join(f.values, " ")))
			case f.takes:
				b.WriteString(" -r")
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

func fishQuoted(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}
