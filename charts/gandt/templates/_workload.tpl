{{/* Everything of one service, when this release has it: (dict "root" $ "name" NAME). */}}
{{- define "gandt.service" -}}
{{- if has .name (splitList " " (include "gandt.workloads" .root)) -}}
{{- include "gandt.account" . }}
---
{{ include "gandt.workload" . }}
---
{{ include "gandt.clusterservice" . }}
{{- include "gandt.disruption" . }}
{{- include "gandt.scaling" . }}
{{- end -}}
{{- end -}}

{{- define "gandt.meta" -}}
metadata:
  name: {{ include "gandt.object" . }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "gandt.labels" . | nindent 4 }}
{{- end -}}

{{/* No service asks the Kubernetes API for anything: no token is mounted and no role is bound. */}}
{{- define "gandt.account" -}}
apiVersion: v1
kind: ServiceAccount
{{ include "gandt.meta" . }}
  {{- with (get .root.Values .name).serviceAccount.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end -}}

{{- define "gandt.workload" -}}
{{- $v := .root.Values -}}
{{- $own := get $v .name -}}
{{- $owns := ne (include "gandt.owns" .) "" -}}
apiVersion: apps/v1
kind: {{ $owns | ternary "StatefulSet" "Deployment" }}
{{ include "gandt.meta" . }}
spec:
  {{- if not (include "gandt.scaled" .) }}
  replicas: {{ $owns | ternary 1 (int $own.replicas) }}
  {{- end }}
  revisionHistoryLimit: 3
  selector: {matchLabels: {{ include "gandt.selector" . | fromYaml | toJson }}}
  {{- if $owns }}
  serviceName: {{ include "gandt.object" . }}
  {{- if $v.persistence.enabled }}
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Retain, whenScaled: Retain}
  volumeClaimTemplates:
    - metadata: {name: data, labels: {{ include "gandt.selector" . | fromYaml | toJson }}}
      spec:
        accessModes: [ReadWriteOnce]
        {{- with $v.persistence.storageClassName }}
        storageClassName: {{ . }}
        {{- end }}
        resources: {requests: {storage: {{ $v.persistence.size }}}}
  {{- end }}
  {{- else }}
  progressDeadlineSeconds: 900
  {{- if has .name (list "jobcontroller" "labeling") }}
  strategy: {type: Recreate} {{/* one leader, one labeling service: the new one waits until the old has gone */}}
  {{- else if and (eq .name "embedding") $v.embedding.gpu.enabled }}
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 0, maxUnavailable: 1}} {{/* no spare GPU for a surge */}}
  {{- else }}
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  {{- end }}
  {{- end }}
  template: {{- include "gandt.pod" . | nindent 4 }}
{{- end -}}

{{/*
gRPC services are headless, so that clients see every pod and balance by round_robin. Pods that are loading are not
published. The standalone pod also has a service for browsers.
*/}}
{{- define "gandt.clusterservice" -}}
{{- $facts := fromYaml (include "gandt.facts" .root) -}}
{{- $members := splitList " " (include "gandt.members" .) -}}
apiVersion: v1
kind: Service
{{ include "gandt.meta" . }}
spec:
  {{- if ne .name "labeling" }}
  clusterIP: None
  {{- end }}
  selector: {{- include "gandt.selector" . | nindent 4 }}
  ports:
    {{- range $member := $members }}
    {{- $fact := get $facts $member }}
    {{- if eq $fact.protocol "grpc" }}
    - {name: grpc-{{ $member }}, port: {{ int $fact.port }}, targetPort: g-{{ $member }}, appProtocol: kubernetes.io/h2c}
    {{- else if eq $.name "labeling" }}
    - {name: http, port: 80, targetPort: http, appProtocol: http}
    {{- end }}
    {{- end }}
{{- if eq .name "standalone" }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ include "gandt.fullname" .root }}-labeling
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "gandt.labels" . | nindent 4 }}
spec:
  selector: {{- include "gandt.selector" . | nindent 4 }}
  ports:
    - {name: http, port: 80, targetPort: http, appProtocol: http}
{{- end }}
{{- end -}}

{{/* A budget for one pod only would block the draining of its node. */}}
{{- define "gandt.disruption" -}}
{{- $own := get .root.Values .name -}}
{{- $many := and (not (include "gandt.owns" .)) (or (gt (int $own.replicas) 1) (include "gandt.scaled" .)) -}}
{{- if $many }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
{{ include "gandt.meta" . }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector: {matchLabels: {{ include "gandt.selector" . | fromYaml | toJson }}}
{{- end }}
{{- end -}}
