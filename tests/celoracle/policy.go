// Validating admission policies: their match conditions, variables, validations and messages, put together as
// the API server's plugin does.
package main

import (
	"context"
	"encoding/json"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	policyv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

type policySpec struct {
	Variables       []policyv1.Variable       `json:"variables"`
	MatchConditions []policyv1.MatchCondition `json:"matchConditions"`
	Validations     []policyv1.Validation     `json:"validations"`
}

type compiledPolicy struct {
	matching    cel.ConditionEvaluator
	validations cel.ConditionEvaluator
	messages    cel.ConditionEvaluator
}

var policies = map[string]*compiledPolicy{}

func compilePolicy(text []byte) (*compiledPolicy, error) {
	if policy, ok := policies[string(text)]; ok {
		return policy, nil
	}
	if len(policies) > 64 {
		clear(policies)
	}
	var spec policySpec
	if err := json.Unmarshal(text, &spec); err != nil {
		return nil, err
	}
	compiler, err := cel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	if err != nil {
		return nil, err
	}
	options := cel.OptionalVariableDeclarations{HasAuthorizer: true}
	for _, variable := range spec.Variables {
		accessor := &validating.Variable{Name: variable.Name, Expression: variable.Expression}
		if result := compiler.CompileAndStoreVariable(accessor, options, environment.NewExpressions); result.Error != nil {
			return nil, fmt.Errorf("variable %s: %w", variable.Name, result.Error)
		}
	}
	conditions := make([]cel.ExpressionAccessor, len(spec.MatchConditions))
	for i := range spec.MatchConditions {
		conditions[i] = (*matchconditions.MatchCondition)(&spec.MatchConditions[i])
	}
	validations := make([]cel.ExpressionAccessor, len(spec.Validations))
	messages := make([]cel.ExpressionAccessor, len(spec.Validations))
	for i, validation := range spec.Validations {
		validations[i] = &validating.ValidationCondition{Expression: validation.Expression}
		if validation.MessageExpression != "" {
			messages[i] = &validating.MessageExpressionCondition{MessageExpression: validation.MessageExpression}
		}
	}
	policy := &compiledPolicy{
		matching:    compiler.CompileCondition(conditions, options, environment.NewExpressions),
		validations: compiler.CompileCondition(validations, options, environment.NewExpressions),
		messages:    compiler.CompileCondition(messages, cel.OptionalVariableDeclarations{}, environment.NewExpressions),
	}
	for _, each := range []cel.ConditionEvaluator{policy.matching, policy.validations, policy.messages} {
		if problems := each.CompilationErrors(); len(problems) > 0 {
			return nil, problems[0]
		}
	}
	policies[string(text)] = policy
	return policy, nil
}

func (policy *compiledPolicy) evaluate(attributes *admission.VersionedAttributes, request *admissionv1.AdmissionRequest, given *answer) {
	ctx := context.Background()
	ask := func(evaluator cel.ConditionEvaluator, budget int64) ([]cel.EvaluationResult, int64, bool) {
		results, left, err := evaluator.ForInput(ctx, attributes, request, cel.OptionalVariableBindings{}, nil, budget)
		if err != nil {
			given.Error = err.Error()
			return nil, 0, false
		}
		for _, result := range results {
			if result.Error != nil {
				given.Error = result.Error.Error()
				return nil, 0, false
			}
		}
		return results, left, true
	}
	conditions, _, ok := ask(policy.matching, celconfig.RuntimeCELCostBudgetMatchConditions)
	if !ok {
		return
	}
	for _, condition := range conditions {
		if condition.EvalResult.Value() != true {
			given.Skipped = true
			return
		}
	}
	results, left, ok := ask(policy.validations, celconfig.RuntimeCELCostBudget)
	if !ok {
		return
	}
	given.Cost = celconfig.RuntimeCELCostBudget - left
	for _, result := range results {
		given.Results = append(given.Results, result.EvalResult.Value() == true)
	}
	messages, left, ok := ask(policy.messages, left)
	if !ok {
		return
	}
	given.Cost = celconfig.RuntimeCELCostBudget - left
	for _, message := range messages {
		text := ""
		if message.EvalResult != nil {
			text = fmt.Sprint(message.EvalResult.Value())
		}
		given.Messages = append(given.Messages, text)
	}
}
