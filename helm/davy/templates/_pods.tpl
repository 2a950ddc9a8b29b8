{{/* What every pod of Davy has. */}}

{{/* (list . .Values.operator.image), or with what the default tag ends in */}}
{{- define "davy.image" -}}
{{- $image := index . 1 -}}
{{- $ending := "" -}}
{{- if gt (len .) 2 }}{{ $ending = index . 2 }}{{ end -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (printf "%s%s" (index . 0).Chart.AppVersion $ending) }}
{{- end -}}
{{- end -}}

{{- define "davy.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "davy.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* A map of settings as variables: (list "DAVY_OPERATOR_" .Values.operator.settings) */}}
{{- define "davy.settings" -}}
{{- $prefix := index . 0 -}}
{{- range $name, $value := index . 1 }}
- name: {{ printf "%s%s" $prefix ($name | upper) }}
  {{- if and (kindIs "float64" $value) (eq (floor $value) $value) }}
  value: {{ printf "%.0f" $value | quote }}
  {{- else }}
  value: {{ $value | toString | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* The store and the key, as the container sees them. */}}
{{- define "davy.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- if .Values.packages.claim }}
- name: packages
  mountPath: /packages
  readOnly: true
{{- end }}
{{- if .Values.signing.publicKeySecret }}
- name: signing
  mountPath: /keys
  readOnly: true
{{- end }}
{{- end -}}

{{- define "davy.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- with .Values.packages.claim }}
- name: packages
  persistentVolumeClaim:
    claimName: {{ . }}
    readOnly: true
{{- end }}
{{- with .Values.signing.publicKeySecret }}
- name: signing
  secret:
    secretName: {{ . }}
    items:
      - key: {{ $.Values.signing.publicKeyName }}
        path: {{ $.Values.signing.publicKeyName }}
{{- end }}
{{- end -}}

{{/* Where a pod may run: .Values.operator or .Values.detector */}}
{{- define "davy.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* (list . port (dict of further annotations)) */}}
{{- define "davy.podAnnotations" -}}
{{- $own := dict -}}
{{- if not (index . 0).Values.monitoring.prometheusOperator -}}
{{- $own = dict "prometheus.io/scrape" "true" "prometheus.io/port" (index . 1 | toString) "prometheus.io/path" "/metrics" -}}
{{- end -}}
{{- with merge (deepCopy (index . 2)) $own }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
