{{/* Not empty when something else decides on the number of pods. */}}
{{- define "gandt.scaled" -}}
{{- if and (eq .name "embedding") (ne .root.Values.embedding.autoscaling.mode "none") -}}yes{{- end -}}
{{- end -}}

{{/* Embedding grows by the time that images wait for the device, and shrinks slowly: a model takes long to load. */}}
{{- define "gandt.scaling" -}}
{{- if include "gandt.scaled" . -}}
{{- $scaling := .root.Values.embedding.autoscaling -}}
{{- $namespace := .root.Release.Namespace -}}
{{- if eq $scaling.mode "hpa" }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
{{ include "gandt.meta" . }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ include "gandt.object" . }}}
  minReplicas: {{ int $scaling.minReplicas }}
  maxReplicas: {{ int $scaling.maxReplicas }}
  metrics:
    - type: External
      external:
        metric: {name: {{ $scaling.metric }}, selector: {matchLabels: {namespace: {{ $namespace }}}}}
        target: {type: Value, value: {{ $scaling.queueSeconds | quote }}}
  behavior:
    scaleUp: {stabilizationWindowSeconds: 30, policies: [{type: Percent, value: 100, periodSeconds: 60}]}
    scaleDown: {stabilizationWindowSeconds: {{ int $scaling.scaleDownSeconds }}, policies: [{type: Pods, value: 1, periodSeconds: 60}]}
{{- else }}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
{{ include "gandt.meta" . }}
spec:
  scaleTargetRef: {name: {{ include "gandt.object" . }}}
  minReplicaCount: {{ int $scaling.minReplicas }}
  maxReplicaCount: {{ int $scaling.maxReplicas }}
  cooldownPeriod: {{ int $scaling.scaleDownSeconds }}
  fallback: {failureThreshold: 3, replicas: {{ max 1 (int $scaling.minReplicas) }}}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleDown: {stabilizationWindowSeconds: {{ int $scaling.scaleDownSeconds }}, policies: [{type: Pods, value: 1, periodSeconds: 60}]}
  triggers:
    - type: prometheus
      metricType: Value
      metadata:
        serverAddress: {{ $scaling.prometheusAddress }}
        query: histogram_quantile(0.95, sum by (le) (rate(gandt_embedding_queue_seconds_bucket{namespace="{{ $namespace }}"}[2m]))) > 0 or vector(0)
        threshold: {{ $scaling.queueSeconds | quote }}
        activationThreshold: "0"
    {{- if eq (int $scaling.minReplicas) 0 }}
    # Without pods nobody measures a queue: calls to the controller that will need vectors wake the pool.
    - type: prometheus
      metricType: AverageValue
      metadata:
        serverAddress: {{ $scaling.prometheusAddress }}
        query: sum(increase(grpc_server_started_total{namespace="{{ $namespace }}",grpc_service="gandt.jobcontroller.v1.JobControllerService",grpc_method=~"CreateEmbeddingJob|CreateCampaign"}[10m])) or vector(0)
        threshold: "1000000"
        activationThreshold: "0"
    {{- end }}
{{- end }}
{{- end -}}
{{- end -}}
