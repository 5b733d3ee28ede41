// Package api has the types of a tool's properties, with the names that Ollama's have: Go prints
// them.
package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// PropertyType is one name of a type, or several.
type PropertyType []string

func (p *PropertyType) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '"' {
		*p = make(PropertyType, 1)
		return json.Unmarshal(text, &(*p)[0])
	}
	return json.Unmarshal(text, (*[]string)(p))
}

func (p PropertyType) MarshalJSON() ([]byte, error) {
	if len(p) == 1 {
		return json.Marshal(p[0])
	}
	return json.Marshal([]string(p))
}

func (p PropertyType) String() string {
	switch len(p) {
	case 0:
		return ""
	case 1:
		return p[0]
	}
	return fmt.Sprint([]string(p))
}

// ToolPropertiesMap keeps the order of its keys.
type ToolPropertiesMap struct {
	keys   []string
	values map[string]ToolProperty
}

func (m *ToolPropertiesMap) UnmarshalJSON(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("properties: not an object (%v)", err)
	}
	m.values = map[string]ToolProperty{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		var value ToolProperty
		if err := d.Decode(&value); err != nil {
			return err
		}
		if _, known := m.values[key.(string)]; !known {
			m.keys = append(m.keys, key.(string))
		}
		m.values[key.(string)] = value
	}
	return nil
}

func (m ToolPropertiesMap) MarshalJSON() ([]byte, error) {
	var b strings.Builder
	b.WriteByte('{')
	for i, key := range m.keys {
		k, _ := json.Marshal(key)
		v, err := json.Marshal(m.values[key])
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(k)
		b.WriteByte(':')
		b.Write(v)
	}
	b.WriteByte('}')
	return []byte(b.String()), nil
}

func (m *ToolPropertiesMap) Len() int {
	if m == nil {
		return 0
	}
	return len(m.keys)
}

func (m *ToolPropertiesMap) ToMap() map[string]ToolProperty {
	if m == nil {
		return nil
	}
	return m.values
}

type ToolProperty struct {
	AnyOf       []ToolProperty     `json:"anyOf,omitempty"`
	Type        PropertyType       `json:"type,omitempty"`
	Items       any                `json:"items,omitempty"`
	Description string             `json:"description,omitempty"`
	Enum        []any              `json:"enum,omitempty"`
	Properties  *ToolPropertiesMap `json:"properties,omitempty"`
	Required    []string           `json:"required,omitempty"`
}

var typescript = map[string]string{
	"string": "string", "number": "number", "integer": "number", "boolean": "boolean",
	"array": "any[]", "object": "Record<string, any>", "null": "null",
}

func (p ToolProperty) ToTypeScriptType() string {
	var names []string
	for _, of := range p.AnyOf {
		names = append(names, of.ToTypeScriptType())
	}
	for _, t := range p.Type {
		if name, known := typescript[t]; len(p.AnyOf) > 0 {
			break
		} else if known {
			names = append(names, name)
		} else {
			names = append(names, "any")
		}
	}
	if len(names) == 0 {
		return "any"
	}
	return strings.Join(names, " | ")
}

type ImageData []byte
