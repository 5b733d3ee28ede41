// The reference for runtime/text/go_template: lines of JSON in, {template, vars, now}; a line out
// for each, "T " and the text's bytes in hex, or "E " and the error.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"ref/template"
)

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var request struct {
			Template string          `json:"template"`
			Vars     json.RawMessage `json:"vars"`
			Now      int64           `json:"now"`
		}
		var text []byte
		err = json.Unmarshal(line, &request)
		if err == nil {
			text, err = template.Render(request.Template, request.Vars, time.Unix(request.Now, 0))
		}
		if err != nil {
			fmt.Fprintf(out, "E %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Fprintf(out, "T %x\n", text)
		}
		out.Flush()
	}
}
