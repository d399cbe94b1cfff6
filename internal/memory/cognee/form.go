package cognee

import (
	"bytes"
	"fmt"
	"mime/multipart"
	"net/textproto"

	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/memory/exchange"
)

// form is a body of files and values.
type form struct {
	body []byte
	kind string // its Content-Type
}

// addForm is what an add takes. Labels and metadata are lists, one entry for each file.
func addForm(item memory.Item, dataset string) (form, error) {
	labels, err := exchange.JSON([]string{labelPrefix + item.ID.String()})
	if err != nil {
		return form{}, err
	}
	metadata, err := exchange.JSON([]any{metadataOf(item)})
	if err != nil {
		return form{}, err
	}
	return formOf(item, [][2]string{
		{"datasetName", dataset}, {"labels", string(labels)}, {"external_metadata", string(metadata)},
	})
}

// updateForm is what an update takes: the document and its node set, and no more.
func updateForm(item memory.Item) (form, error) { return formOf(item, nil) }

func formOf(item memory.Item, values [][2]string) (form, error) {
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	part, err := w.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {fmt.Sprintf(`form-data; name="data"; filename="%s.txt"`, nameOf(item))},
		"Content-Type":        {"text/plain; charset=utf-8"},
	})
	if err != nil {
		return form{}, fmt.Errorf("write the form: %w", err)
	}
	if _, err := part.Write([]byte(documentOf(item))); err != nil {
		return form{}, fmt.Errorf("write the form: %w", err)
	}
	if item.UserID != "" {
		values = append(values, [2]string{"node_set", item.UserID})
	}
	for _, value := range values {
		if err := w.WriteField(value[0], value[1]); err != nil {
			return form{}, fmt.Errorf("write the form: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return form{}, fmt.Errorf("write the form: %w", err)
	}
	return form{body: body.Bytes(), kind: w.FormDataContentType()}, nil
}

// documentOf is the text of a copy. The first line makes it unlike all others.
func documentOf(item memory.Item) string {
	return memory.MetadataID + ": " + item.ID.String() + "\n\n" + item.Content
}

// nameOf is the name of a copy, as it is found again after an update: our id and
// the checksum.
func nameOf(item memory.Item) string {
	name := namePrefix + item.ID.String()
	if isHex(item.Checksum) {
		name += "-" + item.Checksum
	}
	return name
}

// isHex reports whether s can stand in a file name as it is.
func isHex(s string) bool {
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return false
		}
	}
	return 0 < len(s) && len(s) <= 128
}
