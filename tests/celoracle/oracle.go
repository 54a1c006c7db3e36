// celoracle evaluates match conditions and admission policies with the API server's own code: its CEL environment,
// its conversion of objects, its cost limits. It reads one JSON question from each line of standard input, and writes
// one JSON answer on each line of standard output. See ../support/evaluating.py.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/client-go/kubernetes/scheme"
)

type question struct {
	Conditions []string `json:"conditions"`
	// Policy is the spec of a policy, which is evaluated instead of conditions; see policy.go.
	Policy      json.RawMessage `json:"policy"`
	Groups      []string        `json:"groups"`
	Group       string          `json:"group"`
	Kind        string          `json:"kind"`
	Resource    string          `json:"resource"`
	SubResource string          `json:"subResource"`
	Operation   string          `json:"operation"`
	Namespace   string          `json:"namespace"`
	Object      json.RawMessage `json:"object"`
	OldObject   json.RawMessage `json:"oldObject"`
	// Typed objects are decoded as an API server decodes its own kinds; others stay maps.
	Typed bool `json:"typed"`
}

type answer struct {
	// Problem says why the question could not be evaluated: it does not compile, or the object is not a Pod.
	Problem string `json:"problem,omitempty"`
	Results []bool `json:"results"`
	// Skipped says that a match condition of the policy is false.
	Skipped bool `json:"skipped"`
	// Messages are those of the policy's validations.
	Messages []string `json:"messages"`
	// Error is an error to which an API server applies the failure policy.
	Error string `json:"error,omitempty"`
	// Sent is the object as a webhook would get it.
	Sent    any           `json:"sent"`
	Cost    int64         `json:"cost"`
	Compile time.Duration `json:"compile"`
	Elapsed time.Duration `json:"elapsed"`
}

var (
	compiler = cel.NewConditionCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	compiled = map[string]cel.ConditionEvaluator{}
)

func main() {
	input := bufio.NewReader(os.Stdin)
	output := json.NewEncoder(os.Stdout)
	for {
		line, err := input.ReadBytes('\n')
		if err != nil {
			return
		}
		var asked question
		given := answer{Results: []bool{}}
		if err := json.Unmarshal(line, &asked); err != nil {
			given.Problem = err.Error()
		} else {
			evaluate(asked, &given)
		}
		if err := output.Encode(given); err != nil {
			return
		}
	}
}

func evaluate(asked question, given *answer) {
	began := time.Now()
	var evaluator cel.ConditionEvaluator
	var policy *compiledPolicy
	var err error
	if len(asked.Policy) > 0 {
		policy, err = compilePolicy(asked.Policy)
	} else {
		evaluator, err = compile(asked.Conditions)
	}
	given.Compile = time.Since(began)
	if err != nil {
		given.Problem = err.Error()
		return
	}
	kind := schema.GroupVersionKind{Group: asked.Group, Version: "v1", Kind: asked.Kind}
	object, err := decode(asked.Object, kind, asked.Typed)
	if err != nil {
		given.Problem = err.Error()
		return
	}
	old, err := decode(asked.OldObject, kind, asked.Typed)
	if err != nil {
		given.Problem = err.Error()
		return
	}
	if object != nil {
		given.Sent = object
	}
	resource := schema.GroupVersionResource{Group: asked.Group, Version: "v1", Resource: asked.Resource}
	attributes := admission.NewAttributesRecord(object, old, kind, asked.Namespace, "web", resource, asked.SubResource,
		admission.Operation(asked.Operation), nil, false, &user.DefaultInfo{Name: "ana", Groups: asked.Groups})
	versioned := &admission.VersionedAttributes{
		Attributes:         attributes,
		VersionedKind:      kind,
		VersionedObject:    admission.NewLazyObject(object),
		VersionedOldObject: admission.NewLazyObject(old),
	}
	request := cel.CreateAdmissionRequest(attributes, metav1.GroupVersionResource(resource), metav1.GroupVersionKind(kind))
	if policy != nil {
		began = time.Now()
		policy.evaluate(versioned, request, given)
		given.Elapsed = time.Since(began)
		return
	}
	began = time.Now()
	results, left, err := evaluator.ForInput(context.Background(), versioned, request,
		cel.OptionalVariableBindings{}, nil, celconfig.RuntimeCELCostBudgetMatchConditions)
	given.Elapsed = time.Since(began)
	if err != nil {
		given.Error = err.Error()
		return
	}
	given.Cost = celconfig.RuntimeCELCostBudgetMatchConditions - left
	for _, result := range results {
		if result.Error != nil {
			given.Error = result.Error.Error()
			return
		}
		matches, ok := result.EvalResult.Value().(bool)
		if !ok {
			given.Error = fmt.Sprintf("not a boolean: %v", result.EvalResult)
			return
		}
		given.Results = append(given.Results, matches)
	}
}

func compile(expressions []string) (cel.ConditionEvaluator, error) {
	key := fmt.Sprintf("%q", expressions)
	if evaluator, ok := compiled[key]; ok {
		return evaluator, nil
	}
	if len(compiled) > 256 {
		clear(compiled)
	}
	accessors := make([]cel.ExpressionAccessor, len(expressions))
	for i, expression := range expressions {
		accessors[i] = &matchconditions.MatchCondition{Name: fmt.Sprintf("c%d", i), Expression: expression}
	}
	// As for a webhook: an authorizer, no parameters.
	evaluator := compiler.CompileCondition(accessors, cel.OptionalVariableDeclarations{HasAuthorizer: true}, environment.NewExpressions)
	if problems := evaluator.CompilationErrors(); len(problems) > 0 {
		return nil, problems[0]
	}
	compiled[key] = evaluator
	return evaluator, nil
}

func decode(text json.RawMessage, kind schema.GroupVersionKind, typed bool) (runtime.Object, error) {
	if len(text) == 0 || string(text) == "null" {
		return nil, nil
	}
	if typed {
		object, err := scheme.Scheme.New(kind)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, object); err != nil {
			return nil, err
		}
		// Independent of the version that was sent, as in admission.ConvertToGVK.
		object.GetObjectKind().SetGroupVersionKind(kind)
		return object, nil
	}
	// Unstructured's own decoder would refuse an object without a kind.
	content := map[string]any{}
	if err := json.Unmarshal(text, &content); err != nil {
		return nil, err
	}
	object := &unstructured.Unstructured{Object: content}
	object.SetGroupVersionKind(kind)
	return object, nil
}
