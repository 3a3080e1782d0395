{{/* Names and labels. */}}
{{- define "gandt.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 38 | trimSuffix "-" -}}
{{- end -}}

{{/* 38 characters leave room for -jobcontroller: a StatefulSet has 52 at most, as its pods get a label with a hash. */}}
{{- define "gandt.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 38 | trimSuffix "-" -}}
{{- else if contains (include "gandt.name" .) .Release.Name -}}
{{- .Release.Name | trunc 38 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "gandt.name" .) | trunc 38 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Object name of a service: (dict "root" $ "name" "embedding"). The standalone pod has the release's name. */}}
{{- define "gandt.object" -}}
{{- if eq .name "standalone" -}}{{ include "gandt.fullname" .root }}{{- else -}}{{ include "gandt.fullname" .root }}-{{ .name }}{{- end -}}
{{- end -}}

{{- define "gandt.selector" -}}
app.kubernetes.io/name: {{ include "gandt.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{- define "gandt.labels" -}}
{{ include "gandt.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | quote }}
{{- end -}}

{{/* Image by key of .Values.images: digest first, else tag, else the chart's appVersion. */}}
{{- define "gandt.image" -}}
{{- $image := get .root.Values.images .image -}}
{{- $name := $image.repository -}}
{{- with .root.Values.image.registry -}}{{- $name = printf "%s/%s" . $name -}}{{- end -}}
{{- if $image.digest -}}{{ $name }}@{{ $image.digest }}{{- else -}}{{ $name }}:{{ default .root.Chart.AppVersion .root.Values.image.tag }}{{- end -}}
{{- end -}}
