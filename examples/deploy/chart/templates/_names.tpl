{{/* What everything is called: the release, with the chart where the release does not name it. */}}
{{- define "drift.name" -}}
{{- ternary .Release.Name (printf "%s-drift" .Release.Name) (contains "drift" .Release.Name) | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* By which labels pods are found; a Deployment's can never be changed. */}}
{{- define "drift.selector" -}}
app.kubernetes.io/name: drift
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "drift.labels" -}}
{{ include "drift.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}
