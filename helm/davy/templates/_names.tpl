{{/* Names and labels. "davy" for the release davy, else RELEASE-davy. */}}
{{- define "davy.fullname" -}}
{{- if contains "davy" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-davy" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "davy.operator" -}}{{ include "davy.fullname" . }}-operator{{- end -}}
{{- define "davy.detector" -}}{{ include "davy.fullname" . }}-detector{{- end -}}
{{- define "davy.rollouts" -}}{{ include "davy.fullname" . }}-rollouts{{- end -}}

{{/* Labels that never change: (list . "operator") */}}
{{- define "davy.selector" -}}
app.kubernetes.io/name: davy
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "davy.labels" -}}
{{ include "davy.selector" . }}
app.kubernetes.io/part-of: davy
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version | replace "+" "_" }}
{{- end -}}
