// Package template runs a Go template the way Ollama runs a model's: Go's own text/template with
// Ollama's functions, over the types that its templates see.
package template

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/template"
	"text/template/parse"
	"time"

	"ref/api"
)

func marshal(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}

type templateTools []templateTool

func (t templateTools) String() string { return marshal(t) }

type templateTool struct {
	Type     string               `json:"type"`
	Items    any                  `json:"items,omitempty"`
	Function templateToolFunction `json:"function"`
}

func (t templateTool) String() string { return marshal(t) }

type templateToolFunction struct {
	Name        string                         `json:"name"`
	Description string                         `json:"description"`
	Parameters  templateToolFunctionParameters `json:"parameters"`
}

type templateToolFunctionParameters struct {
	Type       string             `json:"type"`
	Defs       any                `json:"$defs,omitempty"`
	Items      any                `json:"items,omitempty"`
	Required   []string           `json:"required,omitempty"`
	Properties templateProperties `json:"properties"`
}

type templateProperties map[string]api.ToolProperty

func (p templateProperties) String() string {
	if p == nil {
		return "{}"
	}
	return marshal(p)
}

type templateArgs map[string]any

func (a templateArgs) String() string {
	if a == nil {
		return "{}"
	}
	return marshal(a)
}

type templateToolCall struct {
	ID       string
	Function templateToolCallFunction
}

type templateToolCallFunction struct {
	Index     int
	Name      string
	Arguments templateArgs
}

type templateMessage struct {
	Role       string
	Content    string
	Thinking   string
	Images     []api.ImageData
	ToolCalls  []templateToolCall
	ToolName   string
	ToolCallID string
}

// Vars is what a request brings.
type Vars struct {
	Messages []struct {
		Role       string             `json:"role"`
		Content    string             `json:"content"`
		Thinking   string             `json:"thinking"`
		Images     []api.ImageData    `json:"images"`
		ToolCalls  []templateToolCall `json:"tool_calls"`
		ToolName   string             `json:"tool_name"`
		ToolCallID string             `json:"tool_call_id"`
	} `json:"messages"`
	Tools  []templateTool `json:"tools"`
	Prompt string         `json:"prompt"`
	Suffix string         `json:"suffix"`
	Think  any            `json:"think"`
}

// Capacities that no template can see past.
func clip(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = clip(v[i])
		}
		return v[:len(v):len(v)]
	case map[string]any:
		for k := range v {
			v[k] = clip(v[k])
		}
	}
	return v
}

func functions(now time.Time) template.FuncMap {
	const day = "2006-01-02"
	return template.FuncMap{
		"json":          marshal,
		"currentDate":   func(...string) string { return now.Format(day) },
		"yesterdayDate": func(...string) string { return now.AddDate(0, 0, -1).Format(day) },
		"toTypeScriptType": func(v any) string {
			switch p := v.(type) {
			case api.ToolProperty:
				return p.ToTypeScriptType()
			case *api.ToolProperty:
				if p != nil {
					return p.ToTypeScriptType()
				}
			}
			return "any"
		},
	}
}

// The names of fields and variables, in lower case.
func identifiers(n parse.Node, found map[string]bool) {
	list := func(l *parse.ListNode) {
		if l != nil {
			for _, n := range l.Nodes {
				identifiers(n, found)
			}
		}
	}
	branch := func(b *parse.BranchNode) {
		identifiers(b.Pipe, found)
		list(b.List)
		list(b.ElseList)
	}
	add := func(names []string) {
		for _, name := range names {
			found[strings.ToLower(name)] = true
		}
	}
	switch n := n.(type) {
	case *parse.ListNode:
		list(n)
	case *parse.TemplateNode:
		if n.Pipe != nil {
			identifiers(n.Pipe, found)
		}
	case *parse.ActionNode:
		identifiers(n.Pipe, found)
	case *parse.IfNode:
		branch(&n.BranchNode)
	case *parse.WithNode:
		branch(&n.BranchNode)
	case *parse.RangeNode:
		branch(&n.BranchNode)
	case *parse.PipeNode:
		for _, c := range n.Cmds {
			for _, a := range c.Args {
				identifiers(a, found)
			}
		}
	case *parse.FieldNode:
		add(n.Ident)
	case *parse.VariableNode:
		add(n.Ident)
	}
}

// cutter takes away what comes behind the first field named Response.
type cutter struct{ done bool }

func (c *cutter) list(l *parse.ListNode) {
	kept := l.Nodes[:0]
	for _, n := range l.Nodes {
		if c.keep(n) {
			kept = append(kept, n)
		}
	}
	l.Nodes = kept
}

func (c *cutter) branch(b *parse.BranchNode) {
	c.list(b.List)
	if c.done {
		b.ElseList = nil
	} else if b.ElseList != nil {
		c.list(b.ElseList)
	}
}

func (c *cutter) pipe(p *parse.PipeNode) bool {
	for _, cmd := range p.Cmds {
		args := cmd.Args[:0]
		for _, a := range cmd.Args {
			if c.keep(a) {
				args = append(args, a)
			}
		}
		if cmd.Args = args; len(args) == 0 {
			return false
		}
	}
	return true
}

func (c *cutter) keep(n parse.Node) bool {
	if f, ok := n.(*parse.FieldNode); ok {
		for _, name := range f.Ident {
			if name == "Response" {
				c.done = true
				return true
			}
		}
	}
	if c.done {
		return false
	}
	switch n := n.(type) {
	case *parse.IfNode:
		c.branch(&n.BranchNode)
	case *parse.WithNode:
		c.branch(&n.BranchNode)
	case *parse.RangeNode:
		c.branch(&n.BranchNode)
	case *parse.ActionNode:
		return c.pipe(n.Pipe)
	case *parse.PipeNode:
		return c.pipe(n)
	}
	return true
}

// Render gives what Ollama would make of the template and the request.
func Render(source string, vars []byte, now time.Time) ([]byte, error) {
	funcs := functions(now)
	t, err := template.New("").Option("missingkey=zero").Funcs(funcs).Parse(source)
	if err != nil {
		return nil, err
	}
	var v Vars
	if err := json.Unmarshal(vars, &v); err != nil {
		return nil, errors.New("vars: " + err.Error())
	}
	names := map[string]bool{}
	for _, d := range t.Templates() {
		identifiers(d.Root, names)
	}
	root := t.Root
	if !names["messages"] && !names["response"] {
		extra := template.Must(template.New("").Parse("{{ .Response }}"))
		root.Nodes = append(root.Nodes, extra.Root.Nodes[0])
	}
	data := v.common()
	if v.Prompt != "" && v.Suffix != "" {
		data["Prompt"], data["Suffix"] = v.Prompt, v.Suffix
		return execute(t, data)
	}
	system, messages := v.collate()
	if names["messages"] {
		data["System"], data["Messages"], data["Tools"] = system, messages, v.tools()
		return execute(t, data)
	}
	return turns(t, funcs, messages, data)
}

func execute(t *template.Template, data map[string]any) ([]byte, error) {
	var out bytes.Buffer
	if err := t.Execute(&out, data); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func (v *Vars) common() map[string]any {
	level, _ := v.Think.(string)
	on, _ := v.Think.(bool)
	if on {
		level = "medium"
	}
	return map[string]any{"Response": "", "Think": on || level != "", "ThinkLevel": level,
		"IsThinkSet": v.Think != nil}
}

func (v *Vars) tools() templateTools {
	if v.Tools == nil {
		return nil
	}
	for i := range v.Tools {
		t := &v.Tools[i]
		t.Items = clip(t.Items)
		p := &t.Function.Parameters
		p.Defs, p.Items = clip(p.Defs), clip(p.Items)
		p.Required = p.Required[:len(p.Required):len(p.Required)]
		for name, property := range p.Properties {
			property.Enum, _ = clip(property.Enum).([]any)
			property.Items = clip(property.Items)
			p.Properties[name] = property
		}
	}
	return v.Tools[:len(v.Tools):len(v.Tools)]
}

func (v *Vars) collate() (string, []*templateMessage) {
	var system []string
	var out []*templateMessage
	for _, in := range v.Messages {
		m := templateMessage(in)
		m.Role = strings.ToLower(m.Role)
		if m.Role == "system" {
			system = append(system, m.Content)
		}
		for _, call := range m.ToolCalls {
			clip(map[string]any(call.Function.Arguments))
		}
		m.ToolCalls = m.ToolCalls[:len(m.ToolCalls):len(m.ToolCalls)]
		if n := len(out); n > 0 && out[n-1].Role == m.Role && m.Role != "tool" {
			out[n-1].Content += "\n\n" + m.Content
		} else {
			out = append(out, &m)
		}
	}
	exact := make([]*templateMessage, len(out))
	copy(exact, out)
	return strings.Join(system, "\n\n"), exact
}

// turns runs a template that knows no messages, once a turn.
func turns(t *template.Template, funcs template.FuncMap, messages []*templateMessage,
	data map[string]any) ([]byte, error) {
	var out bytes.Buffer
	turn := map[string]string{}
	run := func(t *template.Template) error {
		for _, name := range []string{"System", "Prompt", "Response"} {
			data[name] = turn[name]
		}
		turn = map[string]string{}
		return t.Execute(&out, data)
	}
	for _, m := range messages {
		full := m.Role == "system" && turn["Prompt"]+turn["Response"] != "" ||
			m.Role == "user" && turn["Response"] != ""
		if full {
			if err := run(t); err != nil {
				return nil, err
			}
		}
		switch m.Role {
		case "system":
			turn["System"] = m.Content
		case "user":
			turn["Prompt"] = m.Content
		case "assistant":
			turn["Response"] = m.Content
		}
	}
	last := template.New("").Option("missingkey=zero").Funcs(funcs)
	for _, d := range t.Templates() {
		if d.Name() != "" {
			if _, err := last.AddParseTree(d.Name(), d.Tree); err != nil {
				return nil, err
			}
		}
	}
	root := t.Root.CopyList()
	new(cutter).list(root)
	if _, err := last.AddParseTree("", &parse.Tree{Root: root}); err != nil {
		return nil, fmt.Errorf("the last turn: %w", err)
	}
	if err := run(last); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
