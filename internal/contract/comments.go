package contract

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// source knows what the comments of types and fields say.
type source struct {
	root, module string
	packages     map[string]*commented // by import path
}

// commented is a package's comments.
type commented struct {
	types  map[string]string
	fields map[string]string // by Type.Field, of fields alone
	consts map[string]string // texts and numbers, as they are written in JSON
}

func newSource(root, module string) *source {
	return &source{root: root, module: module, packages: map[string]*commented{}}
}

// comments reads a package of this module; another one has none.
func (s *source) comments(pkg string) (*commented, error) {
	if c := s.packages[pkg]; c != nil {
		return c, nil
	}
	c := &commented{types: map[string]string{}, fields: map[string]string{}, consts: map[string]string{}}
	s.packages[pkg] = c
	dir, ours := strings.CutPrefix(pkg, s.module)
	if !ours {
		return c, nil
	}
	dir = filepath.Join(s.root, dir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the source of %s: %w", pkg, err)
	}
	files := token.NewFileSet()
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(files, filepath.Join(dir, e.Name()), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("read the source of %s: %w", pkg, err)
		}
		c.read(files, file)
	}
	return c, nil
}

func (c *commented) read(files *token.FileSet, file *ast.File) {
	for _, d := range file.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range decl.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				doc := spec.Doc
				if doc == nil && len(decl.Specs) == 1 {
					doc = decl.Doc
				}
				c.types[spec.Name.Name] = doc.Text()
				if fields, ok := spec.Type.(*ast.StructType); ok {
					c.readFields(files, spec.Name.Name, fields)
				}
			case *ast.ValueSpec:
				c.readConst(decl.Tok, spec)
			}
		}
	}
}

func (c *commented) readConst(tok token.Token, spec *ast.ValueSpec) {
	if tok != token.CONST || len(spec.Names) != len(spec.Values) {
		return
	}
	for i, name := range spec.Names {
		if lit, ok := spec.Values[i].(*ast.BasicLit); ok && (lit.Kind == token.STRING || lit.Kind == token.INT) {
			c.consts[name.Name] = lit.Value
		}
	}
}

// readFields keeps what stands above a field or behind it. A comment above that names
// the fields of the next lines, too, is theirs as well.
func (c *commented) readFields(files *token.FileSet, of string, s *ast.StructType) {
	above, lastLine := "", 0
	for _, f := range s.Fields.List {
		line := files.Position(f.Pos()).Line
		if f.Doc != nil || line != lastLine+1 {
			above = f.Doc.Text()
		}
		lastLine = files.Position(f.End()).Line
		for _, name := range f.Names {
			text := ""
			switch {
			case f.Doc != nil || above != "" && hasWord(above, name.Name):
				text = above
			case f.Comment != nil:
				text = f.Comment.Text()
			}
			if f.Doc != nil && f.Comment != nil {
				text += " " + f.Comment.Text()
			}
			c.fields[of+"."+name.Name] = text
		}
	}
}

var word = regexp.MustCompile(`[A-Za-z][A-Za-z0-9]*(\.[A-Za-z][A-Za-z0-9]*)?`)

func hasWord(text, want string) bool {
	for _, w := range word.FindAllString(text, -1) {
		if w == want {
			return true
		}
	}
	return false
}

// ofType is what the comment of a type says, without its name: what it is about is
// called otherwise outside.
func (s *source) ofType(t reflect.Type) (string, error) {
	c, err := s.comments(t.PkgPath())
	if err != nil {
		return "", err
	}
	text := strings.Join(strings.Fields(c.types[t.Name()]), " ")
	for _, verb := range []string{" is ", " are ", " says "} {
		if rest, found := strings.CutPrefix(text, t.Name()+verb); found {
			text = strings.ToUpper(rest[:1]) + rest[1:]
			break
		}
	}
	return c.outward(text, nil), nil
}

// ofField is what the comment of a field says, in the names of its JSON.
func (s *source) ofField(owner reflect.Type, f reflect.StructField) (string, error) {
	c, err := s.comments(owner.PkgPath())
	if err != nil {
		return "", err
	}
	names := map[string]string{}
	for sibling := range owner.Fields() {
		if name, _, _ := jsonName(sibling); name != "" && sibling.Name != "Name" {
			names[sibling.Name] = name
		}
	}
	text := strings.Join(strings.Fields(c.fields[owner.Name()+"."+f.Name]), " ")
	for _, verb := range []string{" is ", " are ", " says "} {
		if rest, found := strings.CutPrefix(text, f.Name+verb); found && rest != "" {
			text = rest
			break
		}
	}
	text = strings.TrimPrefix(text, f.Name+": ")
	names["nil"] = "null"
	if _, optional, _ := jsonName(f); optional {
		names["nil"] = "absent"
	}
	return c.outward(text, names), nil
}

// sentence makes one of what a comment says, but for a name that it begins with.
func sentence(text string, values []any) string {
	if text == "" {
		return ""
	}
	first, _, _ := strings.Cut(strings.TrimRight(text, "."), " ")
	first = strings.TrimRight(first, ",:;")
	if !strings.Contains(first, "_") && !slices.Contains(values, any(first)) {
		text = strings.ToUpper(text[:1]) + text[1:]
	}
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text
}

// outward replaces the names of the program by what a client sees: those of fields by
// the JSON's, those of constants by their values.
func (c *commented) outward(text string, names map[string]string) string {
	return word.ReplaceAllStringFunc(text, func(w string) string {
		if name, ok := names[w]; ok {
			return name
		}
		if value, ok := c.consts[w]; ok && w[0] >= 'A' && w[0] <= 'Z' {
			if plain, err := strconv.Unquote(value); err == nil {
				return plain
			}
			return value
		}
		return w
	})
}
