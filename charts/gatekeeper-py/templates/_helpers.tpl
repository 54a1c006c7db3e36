{{/*
The objects have the same names whatever the release is called. The names of the webhook configurations are
fixed in the program, so there is one installation in a cluster. Helm refuses a second release, because it
does not own the cluster-scoped objects.
*/}}
{{- define "gatekeeper-py.labels" -}}
app.kubernetes.io/part-of: gatekeeper-py
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "gatekeeper-py.image" -}}
{{- $image := .Values.image -}}
{{- $tag := $image.tag | default (empty $image.digest | ternary .Chart.AppVersion "") -}}
{{- $image.repository }}{{ with $tag }}:{{ . }}{{ end }}{{ with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* The name of the policy's ConfigMap. */}}
{{- define "gatekeeper-py.configMap" -}}
{{ .Values.policy.existingConfigMap | default "gatekeeper-py-policy" }}
{{- end }}

{{/* Where Pods run, and with which Secrets their image is pulled. */}}
{{- define "gatekeeper-py.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The placement and priority of Pods that the cluster depends on. */}}
{{- define "gatekeeper-py.scheduling" -}}
{{- with .Values.priorityClass.name }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- include "gatekeeper-py.placement" . }}
{{- end }}

{{/* The seconds of a time such as 90s, 10m or 1h30m. */}}
{{- define "gatekeeper-py.seconds" -}}
{{- $seconds := 0 -}}
{{- $units := dict "h" 3600 "m" 60 "s" 1 -}}
{{- range regexFindAll "[0-9]+[hms]" . -1 -}}
{{- $number := regexFind "[0-9]+" . -}}
{{- /* A number with a leading zero would be read as octal. */ -}}
{{- $seconds = add $seconds (mul (regexReplaceAll "^0+" $number "" | int64) (get $units (trimPrefix $number .))) -}}
{{- end -}}
{{- $seconds -}}
{{- end }}

{{/* How many seconds before it expires a certificate is renewed. */}}
{{- define "gatekeeper-py.renewBeforeSeconds" -}}
{{- if .Values.certManager.enabled -}}
{{- include "gatekeeper-py.seconds" .Values.certManager.renewBefore -}}
{{- else -}}
{{- mulf .Values.certificates.renewBeforeDays 86400 | int64 -}}
{{- end -}}
{{- end }}

{{- define "gatekeeper-py.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Annotations of the Pods of one component; the argument is a list of the root and the component's values. */}}
{{- define "gatekeeper-py.podAnnotations" -}}
{{- $ours := dict -}}
{{- if (index . 0).Values.monitoring.scrapeAnnotations -}}
{{- $ours = dict "prometheus.io/scrape" "true" "prometheus.io/port" "8080" -}}
{{- end -}}
{{- with merge (deepCopy (index . 1).podAnnotations) $ours }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/* The labels of an object and some more; the argument is a list of the root and the others. The
others cannot replace the labels of the chart. */}}
{{- define "gatekeeper-py.labelsWith" -}}
{{- merge (include "gatekeeper-py.labels" (index . 0) | fromYaml) (index . 1) | toYaml }}
{{- end }}
